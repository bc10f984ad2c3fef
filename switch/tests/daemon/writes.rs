//! The topology is changed by requests, which are kept in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use guest::Options;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::rig::{Daemon, exchange, introduce};

/// Two VMs in the main file; programs may add more.
const TWO: &str = "cores: [CPU]\ncontrol: { path: DIR/control.sock }\n\
    include: [ \"vms.d/*.yaml\" ]\n\
    networks: { blue: {}, red: {} }\nvms:\n  \
    a: { nics: { net0: { network: blue, vhost-user: { path: DIR/a.sock } } } }\n  \
    b: { nics: { net0: { network: blue, vhost-user: { path: DIR/b.sock } } } }\n";

fn start() -> Daemon {
    Daemon::start(TWO)
}

/// A VM with a socket of its name.
fn vm(daemon: &Daemon, name: &str) -> String {
    let path = daemon.path(&format!("{name}.sock"));
    json!({ "nics": { "net0": { "network": "blue", "vhost-user": { "path": path } } } }).to_string()
}

fn put(daemon: &Daemon, name: &str) -> (u16, Value) {
    daemon.ask("PUT", &format!("/v1/vms/{name}"), &vm(daemon, name))
}

fn file(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.path(&format!("vms.d/{name}.yaml"))
}

fn number(daemon: &Daemon) -> u64 {
    let (_, answer) = daemon.ask("GET", "/v1/version", "");
    answer["topology"].as_u64().unwrap()
}

/// All that may change by a request: files and what they say, sockets, ports, the number.
fn state(daemon: &Daemon) -> (Vec<(String, Vec<u8>)>, Value, u64) {
    let mut files = Vec::new();
    for folder in [daemon.path(""), daemon.path("vms.d")] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.path().display().to_string();
            // Addresses are saved when they are learned.
            if name.contains("pins.json") {
                continue;
            }
            files.push((name, fs::read(entry.path()).unwrap_or_default()));
        }
    }
    files.sort();
    let names: Vec<_> = daemon.json(&["ports"]).as_array().unwrap().clone();
    let names = names.iter().map(|port| port["name"].clone()).collect();
    (files, names, number(daemon))
}

/// Whether a restart finds what runs.
fn assert_is_kept(mut daemon: Daemon) -> Daemon {
    let ports = |daemon: &Daemon| {
        let ports = daemon.json(&["ports"]);
        let ports = ports.as_array().unwrap().iter();
        let mut names: Vec<_> = ports.map(|port| port["name"].to_string()).collect();
        names.sort();
        (names, daemon.json(&["limits"])[0]["limit"].clone())
    };
    let before = ports(&daemon);
    daemon.signal(Signal::KILL);
    daemon.ended();
    let dir = daemon.dir.clone();
    drop(daemon);
    let daemon = Daemon::start_in(dir, TWO);
    assert_eq!(ports(&daemon), before);
    daemon
}

#[test]
fn vm_is_added_changed_and_removed_by_requests_and_kept() {
    let daemon = start();
    let [mut a, b] = daemon.guests(["a", "b"]);
    let (status, answer) = put(&daemon, "c");
    assert_eq!((status, &answer["topology"]), (201, &2.into()), "{answer}");
    assert_eq!(answer["data"]["changes"][1]["name"], "c/net0", "{answer}");
    let mut c = daemon.guest("c.sock", Options::default());
    introduce((1, &mut a), (3, &mut c));
    exchange((1, &mut a), (3, &mut c), 20);
    let limit = r#"{ "from-vm": { "rate": "1gbit" } }"#;
    let (status, answer) = daemon.ask("PATCH", "/v1/vms/c/limit", limit);
    assert_eq!((status, &answer["topology"]), (200, &3.into()), "{answer}");
    let text = fs::read_to_string(file(&daemon, "c")).unwrap();
    assert!(text.contains("rate: 1gbit"), "{text}");
    assert_eq!(daemon.json(&["limits"])[0]["name"], "c");
    exchange((3, &mut c), (1, &mut a), 20);
    drop((a, b, c));
    let daemon = assert_is_kept(daemon);
    let (status, answer) = daemon.ask("DELETE", "/v1/vms/c", "");
    assert_eq!((status, &answer["topology"]), (200, &2.into()), "{answer}");
    assert!(!file(&daemon, "c").exists() && !daemon.path("c.sock").exists());
    assert_eq!(fs::read_dir(daemon.path("vms.d")).unwrap().count(), 0);
    assert_is_kept(daemon);
}

#[test]
fn file_that_is_not_the_requests_own_is_left_alone() {
    let mut daemon = start();
    let refused = |daemon: &Daemon, method: &str, name: &str, code: &str, part: &str| {
        let before = state(daemon);
        let (target, body) = match method {
            "PATCH" => (
                format!("/v1/vms/{name}/limit"),
                "from-vm: { rate: 1gbit }".to_owned(),
            ),
            "DELETE" => (format!("/v1/vms/{name}"), String::new()),
            _ => (format!("/v1/vms/{name}"), vm(daemon, name)),
        };
        let (status, answer) = daemon.ask(method, &target, &body);
        assert_eq!((status, &answer["code"]), (409, &code.into()), "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{detail}");
        assert_eq!(state(daemon), before, "{detail}");
    };
    for method in ["PUT", "PATCH", "DELETE"] {
        refused(&daemon, method, "a", "elsewhere", "weir.yaml:6");
    }
    // Somebody has edited the VM's own file.
    assert_eq!(put(&daemon, "c").0, 201);
    let own = fs::read_to_string(file(&daemon, "c")).unwrap();
    fs::write(file(&daemon, "c"), format!("{own}# mine\n")).unwrap();
    for method in ["PUT", "PATCH", "DELETE"] {
        refused(
            &daemon,
            method,
            "c",
            "edited",
            "has been edited since it was read",
        );
    }
    // It was put there by hand, and has not been read.
    let d = own.replace("c:", "d:").replace("c.sock", "d.sock");
    fs::write(file(&daemon, "d"), &d).unwrap();
    refused(&daemon, "PUT", "d", "edited", "d.yaml is new");
    let (status, answer) = daemon.ask("POST", "/v1/reload", "");
    assert_eq!(status, 200, "{answer}");
    daemon.until_state("d/net0", "waiting");
    assert_eq!(daemon.ask("DELETE", "/v1/vms/c", "").0, 200);
    // Another VM has come into the file.
    let two = format!(
        "{d}{}",
        d.lines()
            .skip(2)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .replace("d:", "e:")
            .replace("d.sock", "e.sock")
    );
    fs::write(file(&daemon, "d"), two).unwrap();
    refused(&daemon, "PUT", "d", "edited", "has VM `e`");
    // The file is not included any more.
    fs::remove_file(file(&daemon, "d")).unwrap();
    let without = TWO.replace("include: [ \"vms.d/*.yaml\" ]\n", "");
    crate::rig::write(&daemon.dir, &without);
    assert_eq!(daemon.ask("POST", "/v1/reload", "").0, 200);
    refused(
        &daemon,
        "PUT",
        "d",
        "not-included",
        "write `include: [ \"vms.d/*.yaml\" ]` into",
    );
}

#[test]
fn edits_of_other_files_wait_and_block_nothing() {
    let daemon = start();
    // Other files are broken, and would be refused.
    crate::rig::write(&daemon.dir, &TWO.replace("network: blue", "network: blau"));
    fs::create_dir(daemon.path("vms.d")).unwrap();
    fs::write(file(&daemon, "new"), "vms: {").unwrap();
    let (status, answer) = put(&daemon, "c");
    assert_eq!(status, 201, "{answer}");
    let pending = answer["data"]["pending"].as_array().unwrap();
    let named = |n: usize| {
        Path::new(pending[n]["file"].as_str().unwrap())
            .file_name()
            .unwrap()
    };
    assert_eq!(
        (named(0).to_str(), &pending[0]["edit"]),
        (Some("new.yaml"), &"added".into())
    );
    assert_eq!(
        (named(1).to_str(), &pending[1]["edit"]),
        (Some("weir.yaml"), &"changed".into())
    );
    assert_eq!(pending.len(), 2, "{answer}");
    let before = state(&daemon);
    let (status, answer) = daemon.ask("POST", "/v1/reload", "");
    assert_eq!((status, &answer["code"]), (422, &"invalid-topology".into()));
    assert_eq!(answer["mistakes"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(state(&daemon), before);
    crate::rig::write(&daemon.dir, TWO);
    fs::remove_file(file(&daemon, "new")).unwrap();
    let (status, answer) = daemon.ask("POST", "/v1/reload", "");
    assert_eq!(
        (status, &answer["data"]["changes"]),
        (200, &json!([])),
        "{answer}"
    );
    let (_, answer) = daemon.ask("DELETE", "/v1/vms/c?dry_run=true", "");
    assert_eq!(answer["data"].get("pending"), None, "{answer}");
}

#[test]
fn change_for_another_topology_is_refused() {
    let daemon = start();
    let body = vm(&daemon, "c");
    for (line, status) in [
        ("If-Match: \"2\"\r\n", 412),
        ("If-Match: \"1\"\r\n", 201),
        ("If-Match: \"1\"\r\n", 412),
        ("If-None-Match: *\r\n", 412),
        ("If-Match: \"2\"\r\n", 200),
    ] {
        let before = state(&daemon);
        let (found, answer) = daemon.ask_if(line, "PUT", "/v1/vms/c", &body);
        assert_eq!(found, status, "{line} {answer}");
        assert!(status < 300 || state(&daemon) == before, "{line}");
    }
    assert_eq!(number(&daemon), 2, "the last one changed nothing");
}

#[test]
fn many_clients_at_once_change_it_one_after_another() {
    let daemon = Arc::new(start());
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let daemon = daemon.clone();
            std::thread::spawn(move || {
                let change = |n: usize| {
                    let name = format!("c{client}-{n}");
                    let (status, answer) = put(&daemon, &name);
                    assert_eq!(status, 201, "{answer}");
                    let mut numbers = vec![answer["topology"].as_u64().unwrap()];
                    if n % 2 == 1 {
                        let (status, answer) = daemon.ask("DELETE", &format!("/v1/vms/{name}"), "");
                        assert_eq!(status, 200, "{answer}");
                        numbers.push(answer["topology"].as_u64().unwrap());
                    }
                    numbers
                };
                (0..6).flat_map(change).collect::<Vec<_>>()
            })
        })
        .collect();
    introduce((1, &mut a), (2, &mut b));
    exchange((1, &mut a), (2, &mut b), 200);
    let mut numbers: Vec<_> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        (2..=73).collect::<Vec<_>>(),
        "each change has a number of its own"
    );
    assert_eq!(daemon.json(&["ports"]).as_array().unwrap().len(), 2 + 24);
    assert_eq!(fs::read_dir(daemon.path("vms.d")).unwrap().count(), 24);
    drop((a, b));
    assert_is_kept(Arc::into_inner(daemon).unwrap());
}

/// What is mounted on a path until this is dropped. Tests of failing disks need root.
struct Mounted(PathBuf);

impl Mounted {
    /// None: this user can't mount; that is said, or fails where nothing may be skipped.
    fn on(path: PathBuf, words: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let is_ci = std::env::var("CI").as_deref() == Ok("true");
            assert!(!is_ci, "in CI nothing may be skipped: this needs root");
            eprintln!("SKIPPED: mounting needs root");
            return None;
        }
        let mounted = Command::new("mount").args(words).arg(&path).status();
        assert!(
            mounted.unwrap().success(),
            "mount {words:?} {}",
            path.display()
        );
        Some(Self(path))
    }

    /// A file system without room.
    fn full_disk_on(path: PathBuf) -> Option<Self> {
        let options = "size=4096,nr_inodes=8";
        let full = Self::on(path, &["-t", "tmpfs", "-o", options, "weir-test"])?;
        fs::write(full.0.join("others"), [0; 4096]).unwrap();
        Some(full)
    }

    /// A file that no other can replace.
    fn busy_file(path: PathBuf) -> Option<Self> {
        let file = path.to_str().unwrap().to_owned();
        Self::on(path, &["--bind", &file])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn full_disk_undoes_the_change() {
    let mut daemon = start();
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    fs::create_dir(daemon.path("vms.d")).unwrap();
    let Some(full) = Mounted::full_disk_on(daemon.path("vms.d")) else {
        return;
    };
    let before = state(&daemon);
    let n_files = daemon.n_files();
    for _ in 0..3 {
        let (status, answer) = put(&daemon, "c");
        assert_eq!(
            (status, &answer["code"]),
            (507, &"cannot-write".into()),
            "{answer}"
        );
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("No space left"), "{detail}");
        assert_eq!(state(&daemon), before);
        daemon.until("its connection is closed", |daemon| {
            daemon.n_files() == n_files
        });
        exchange((1, &mut a), (2, &mut b), 20);
    }
    drop(full);
    assert_eq!(put(&daemon, "c").0, 201);
}

/// It is the last step that can fail: all others have been done already.
#[test]
fn file_that_cannot_be_replaced_undoes_the_change() {
    let mut daemon = start();
    let [mut a, _b] = daemon.guests(["a", "b"]);
    assert_eq!(put(&daemon, "c").0, 201);
    let mut c = daemon.guest("c.sock", Options::default());
    introduce((1, &mut a), (3, &mut c));
    let Some(busy) = Mounted::busy_file(file(&daemon, "c")) else {
        return;
    };
    let before = state(&daemon);
    let n_files = daemon.n_files();
    let other_path = vm(&daemon, "c").replace("c.sock", "other.sock");
    let more_queues = vm(&daemon, "c").replace("\"network\"", "\"queues\": 4, \"network\"");
    for (method, target, body) in [
        ("PUT", "/v1/vms/c", &*other_path),
        ("PUT", "/v1/vms/c", &more_queues),
        ("PATCH", "/v1/vms/c/limit", "from-vm: { rate: 1gbit }"),
        ("DELETE", "/v1/vms/c", ""),
    ] {
        let (status, answer) = daemon.ask(method, target, body);
        assert_eq!(
            (status, &answer["code"]),
            (409, &"cannot-write".into()),
            "{answer}"
        );
        assert_eq!(state(&daemon), before, "{method} {body}");
        daemon.until("its connection is closed", |daemon| {
            daemon.n_files() == n_files
        });
        exchange((1, &mut a), (3, &mut c), 20);
        assert_eq!(daemon.port("c/net0")["connection"]["connections"], 1);
    }
    drop(busy);
    assert_eq!(daemon.ask("PUT", "/v1/vms/c", &other_path).0, 200);
    assert!(daemon.path("other.sock").exists());
    daemon.until("the old socket is gone", |daemon| {
        !daemon.path("c.sock").exists()
    });
}

#[test]
fn file_of_a_daemon_that_was_killed_while_it_wrote_is_swept() {
    let daemon = start();
    assert_eq!(put(&daemon, "c").0, 201);
    for left in [".c.yaml.draft", "..c.yaml.draft", ".gone.yaml.draft"] {
        fs::write(daemon.path("vms.d").join(left), "vms: {").unwrap();
    }
    fs::write(daemon.path("vms.d/.other"), "not the daemon's").unwrap();
    let daemon = assert_is_kept(daemon);
    let names = || {
        let entries = fs::read_dir(daemon.path("vms.d")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [".other", "c.yaml"]);
    // One that comes later is written over.
    fs::write(daemon.path("vms.d/.d.yaml.draft"), "vms: {").unwrap();
    assert_eq!(put(&daemon, "d").0, 201);
    assert_eq!(names(), [".other", "c.yaml", "d.yaml"]);
}

#[test]
fn owner_and_mode_of_a_file_stay_and_links_are_followed() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let daemon = start();
    assert_eq!(put(&daemon, "c").0, 201);
    let (own, elsewhere) = (file(&daemon, "c"), daemon.path("c.real"));
    fs::rename(&own, &elsewhere).unwrap();
    symlink(&elsewhere, &own).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(daemon.ask("POST", "/v1/reload", "").0, 200);
    let (status, answer) = daemon.ask("PATCH", "/v1/vms/c/limit", "from-vm: { rate: 1gbit }");
    assert_eq!(status, 200, "{answer}");
    assert!(own.is_symlink());
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("1gbit"));
    assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(
        daemon.ask("POST", "/v1/reload", "").1["data"]["changes"],
        json!([])
    );
    // What a killed daemon left beside it is removed, too.
    fs::write(daemon.path(".c.real.draft"), "vms: {").unwrap();
    let daemon = assert_is_kept(daemon);
    assert!(!daemon.path(".c.real.draft").exists());
    // The link goes, and what it leads to is not the daemon's.
    let (status, answer) = daemon.ask("DELETE", "/v1/vms/c", "");
    assert_eq!(status, 200, "{answer}");
    assert!(!own.is_symlink() && elsewhere.exists());
    let daemon = assert_is_kept(daemon);
    let (_, answer) = daemon.ask("POST", "/v1/reload", "");
    assert_eq!(answer["data"]["changes"], json!([]), "{answer}");
}

#[test]
fn command_line_asks_for_changes() {
    let daemon = start();
    let weir = |words: &[&str]| {
        let mut weir = crate::rig::weir();
        let output = weir
            .arg("--control")
            .arg(daemon.path("control.sock"))
            .args(words)
            .output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let path = daemon.path("vm.yaml");
    let path = path.to_str().unwrap();
    fs::write(path, vm(&daemon, "c")).unwrap();
    let says = |words: &[&str], is_ok: bool, parts: &[&str]| {
        let (found, text) = weir(words);
        assert!(
            found == is_ok && parts.iter().all(|part| text.contains(part)),
            "{words:?}: {text}"
        );
    };
    says(
        &["vm", "add", "c", path, "--dry-run"],
        true,
        &["VM c: added", "this was a dry run"],
    );
    says(
        &["vm", "add", "c", path],
        true,
        &["VM c: added", "topology 2 is in force"],
    );
    says(
        &["vm", "add", "c", path],
        false,
        &["a VM c already", "--replace", "nothing has been"],
    );
    says(
        &["vm", "add", "--replace", "c", path],
        true,
        &["no changes", "topology 2 is in force"],
    );
    says(
        &["limit", "c", "from-vm=2gbit"],
        true,
        &["rate: not set -> 2gbit", "topology 3 is"],
    );
    says(
        &["limit", "c", "from-vm=2gbps"],
        false,
        &["write `2gbit`", "nothing has been changed"],
    );
    says(
        &["limit", "a", "from-vm=2gbit"],
        false,
        &["weir.yaml:6", "nothing has been changed"],
    );
    says(
        &["limit", "c", "from-vm="],
        true,
        &["rate: 2gbit -> not set", "topology 4 is in force"],
    );
    says(
        &["vm", "remove", "c", "--if-topology", "3"],
        false,
        &["topology 4 is in force, and not 3"],
    );
    says(
        &["vm", "remove", "c", "--json"],
        true,
        &["{\"topology\":5,", "\"removed\""],
    );
    says(&["vm", "remove", "c"], false, &["there is no VM c"]);
    fs::write(path, vm(&daemon, "c").replace("blue", "blau")).unwrap();
    says(
        &["vm", "add", "c", path],
        false,
        &["no network `blau`", "vm.yaml:1:", "did you mean"],
    );
    crate::rig::write(&daemon.dir, &TWO.replace("  b:", "  z:"));
    says(
        &["reload", "--dry-run"],
        true,
        &["VM b: removed", "VM z: added", "a dry run"],
    );
    assert_eq!(number(&daemon), 5);
    says(
        &["reload"],
        true,
        &["VM b: removed", "VM z: added", "topology 6 is in force"],
    );
    crate::rig::write(&daemon.dir, &TWO.replace("networks", "netwroks"));
    says(
        &["reload"],
        false,
        &[
            "unknown key `netwroks`",
            "did you mean `networks`?",
            "nothing has",
        ],
    );
    assert_eq!(number(&daemon), 6);
}
