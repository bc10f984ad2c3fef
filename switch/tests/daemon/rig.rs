//! A daemon in a folder of its own. Nothing waits for a time to pass: whatever is expected is asked
//! for until it is there.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use guest::{Guest, Manner, Options, Socket};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a topology, and the daemon that runs it.
pub(crate) struct Daemon {
    pub(crate) dir: Arc<TempDir>,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// A daemon for `topology`, ready for guests. `DIR` in it stands for its folder, `CPU` for one
    /// it may poll on.
    pub(crate) fn start(topology: &str) -> Self {
        Self::start_in(Arc::new(folder()), topology)
    }

    /// The same in a folder that is there already.
    pub(crate) fn start_in(dir: Arc<TempDir>, topology: &str) -> Self {
        Self::start_by(dir, topology, weir())
    }

    /// The same by a command of one's own, which runs the program it is given the rest for.
    pub(crate) fn start_by(dir: Arc<TempDir>, topology: &str, weir: Command) -> Self {
        let mut daemon = Self::spawn(dir, topology, weir);
        daemon.until_it_answers();
        daemon
    }

    /// The same, which may not answer yet.
    pub(crate) fn spawn(dir: Arc<TempDir>, topology: &str, weir: Command) -> Self {
        let mut daemon = Self::spawn_with(dir, topology, weir, Stdio::piped());
        let (stderr, sink) = (daemon.child.stderr.take().unwrap(), daemon.log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        daemon
    }

    /// The same with a standard error of one's own, of which the rig reads nothing.
    pub(crate) fn spawn_with(
        dir: Arc<TempDir>,
        topology: &str,
        mut weir: Command,
        stderr: Stdio,
    ) -> Self {
        let file = write(&dir, topology);
        let child = weir.arg("run").arg(file).stderr(stderr).spawn().unwrap();
        let log = Arc::default();
        Self { dir, child, log }
    }

    pub(crate) fn until_it_answers(&mut self) {
        self.until("the daemon answers", |daemon| {
            assert!(
                daemon.child.try_wait().unwrap().is_none(),
                "the daemon ended:\n{}",
                daemon.log()
            );
            daemon.show(&["cores"]).status.success()
        });
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// An answer on the control socket: HTTP's number, and the JSON.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        self.ask_if("", method, target, body)
    }

    /// The same with a line of the head.
    pub(crate) fn ask_if(
        &self,
        line: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path("control.sock")).unwrap();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n{line}");
        let n = body.len();
        write!(stream, "{head}Content-Length: {n}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the daemon does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `weir show …`
    pub(crate) fn show(&self, words: &[&str]) -> Output {
        weir()
            .arg("--control")
            .arg(self.path("control.sock"))
            .arg("show")
            .args(words)
            .output()
            .unwrap()
    }

    /// `weir show … --json`
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let output = self.show(&[words, &["--json"]].concat());
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn port(&self, name: &str) -> Value {
        self.json(&["port", name])
    }

    /// Frames from a port that were dropped for this reason.
    pub(crate) fn dropped(&self, port: &str, reason: &str) -> u64 {
        let port = self.port(port);
        let drops = port["drops"].as_array().unwrap();
        let drop = drops.iter().find(|drop| drop["reason"] == reason);
        // Reasons without any are left out.
        drop.map_or(0, |drop| drop["frames"].as_u64().unwrap())
    }

    /// Asks until it is so.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < PATIENCE, "not so: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn until_state(&mut self, port: &str, state: &str) {
        self.until(&format!("{port} is {state}"), |daemon| {
            daemon.port(port)["state"] == state
        });
    }

    /// Files that it has open.
    pub(crate) fn n_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero()))
            .unwrap()
            .count()
    }

    /// Mappings of guests' memory that it has.
    pub(crate) fn n_shared_mappings(&self) -> usize {
        let maps =
            fs::read_to_string(format!("/proc/{}/maps", self.pid().as_raw_nonzero())).unwrap();
        maps.lines().filter(|line| line.contains("memfd:")).count()
    }

    /// A guest that connects to the socket of this name.
    pub(crate) fn guest(&self, socket: &str, options: Options) -> Guest {
        let opened = Guest::open(
            Socket::Connect(self.path(socket)),
            options,
            Manner::default(),
            PATIENCE,
        );
        opened.unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// One at each of these VMs' sockets: stations 1, 2, and so on, of which the first and each
    /// other have heard of each other.
    pub(crate) fn guests<const N: usize>(&self, names: [&str; N]) -> [Guest; N] {
        let mut guests = names.map(|name| self.guest(&format!("{name}.sock"), Options::default()));
        if let [first, others @ ..] = &mut guests[..] {
            (2..)
                .zip(others)
                .for_each(|(n, other)| introduce((1, &mut *first), (n, other)));
        }
        guests
    }

    /// Threads of this name that it has.
    pub(crate) fn threads(&self, name: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).unwrap();
        // One may end in between.
        let has_name = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|it| it.trim() == name)
        };
        tasks
            .map_while(Result::ok)
            .filter(has_name)
            .map(|task| task.file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended, or stand still.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// The program.
pub(crate) fn weir() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

/// A folder, with a name short enough for sockets.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("weir")
        .tempdir_in("/tmp")
        .unwrap()
}

/// Writes the topology into the folder.
pub(crate) fn write(dir: &TempDir, topology: &str) -> PathBuf {
    let path = dir.path().join("weir.yaml");
    let text = topology
        .replace("DIR", &dir.path().display().to_string())
        .replace("CPU", &cpu().to_string());
    fs::write(&path, text).unwrap();
    path
}

/// The last CPU that may be used.
pub(crate) fn cpu() -> usize {
    core_affinity::get_core_ids().unwrap().last().unwrap().id
}

/// VMs of one NIC each in one network, `NAME.sock` being theirs.
pub(crate) fn topology(names: &[&str], listens: &str) -> String {
    let vm = |name: &&str| {
        let socket = format!("{{ path: DIR/{name}.sock, listens: {listens} }}");
        format!(
            "  {name}: {{ nics: {{ net0: {{ network: blue, queues: 8, vhost-user: {socket} }} }} \
            }}\n"
        )
    };
    let vms: String = names.iter().map(vm).collect();
    format!(
        "cores: [CPU]\ncontrol: {{ path: DIR/control.sock }}\nnetworks: {{ blue: {{ mtu: 9000 }} \
        }}\nvms:\n{vms}"
    )
}

/// A frame of this length, from and to the stations of these numbers, with a body that `seed` tells
/// from others.
pub(crate) fn frame(from: u8, to: u8, len: usize, seed: u64) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while frame.len() < len {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        frame.push(word.to_be_bytes()[0]);
    }
    frame
}

/// Sends a frame, and again as long as there is no room.
pub(crate) fn send(guest: &mut Guest, frame: &[u8]) {
    let begin = Instant::now();
    while !guest.send(0, frame) {
        guest.driver.reclaim_tx(0);
        assert!(begin.elapsed() < PATIENCE, "the ring stays full");
        std::thread::yield_now();
    }
}

/// The next frame that comes by any queue pair, greetings apart; none within [`PATIENCE`]: a
/// failure.
pub(crate) fn receive(guest: &mut Guest) -> Vec<u8> {
    let begin = Instant::now();
    loop {
        match take(guest) {
            Some(frame) if !is_hello(&frame) => return frame,
            Some(_) => {}
            None => {
                assert!(begin.elapsed() < PATIENCE, "no frame comes");
                guest.wait(Duration::from_millis(100));
            }
        }
    }
}

fn take(guest: &mut Guest) -> Option<Vec<u8>> {
    (0..usize::from(guest.driver.options().n_queue_pairs)).find_map(|pair| guest.recv(pair))
}

/// Frames of many lengths from one to the other arrive as they were sent, in order.
pub(crate) fn exchange(a: (u8, &mut Guest), b: (u8, &mut Guest), n: u64) {
    let lens = [14, 60, 64, 128, 129, 512, 1500, 1514];
    for seed in 0..n {
        let len = lens[usize::try_from(seed).unwrap() % lens.len()];
        let sent = frame(a.0, b.0, len, seed);
        send(a.1, &sent);
        // What goes to a station that has left is flooded, and may come in between.
        let got = std::iter::repeat_with(|| receive(b.1)).find(|got| got[..6] == sent[..6]);
        assert_eq!(got.as_ref(), Some(&sent), "frame {seed} of {len} bytes");
    }
}

/// Both have heard of each other. A port that has just come up may miss a frame, so greetings are
/// repeated.
pub(crate) fn introduce(a: (u8, &mut Guest), b: (u8, &mut Guest)) {
    greet((a.0, &mut *a.1), (b.0, &mut *b.1));
    greet(b, a);
}

fn greet(from: (u8, &mut Guest), to: (u8, &mut Guest)) {
    let hello = frame(from.0, to.0, 64, HELLO);
    let begin = Instant::now();
    loop {
        from.1.send(0, &hello);
        from.1.driver.reclaim_tx(0);
        to.1.wait(Duration::from_millis(20));
        while let Some(frame) = take(to.1) {
            if frame == hello {
                return;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "no greeting comes");
    }
}

const HELLO: u64 = 4711;

pub(crate) fn is_hello(bytes: &[u8]) -> bool {
    bytes.len() == 64 && bytes == frame(bytes[11], bytes[5], 64, HELLO)
}

/// A path's text.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
