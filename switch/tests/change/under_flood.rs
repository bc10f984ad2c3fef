//! VMs come and go one by one while others forward at full rate: nothing of theirs is lost, and
//! what has been changed is seen soon.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::flood::Flood;
use crate::rig::{PATIENCE, weir};
use crate::world::{MAIN, Outcome, Reloading, World, vm};

/// The lower rate of the limited VM, at which a frame takes twelve milliseconds, and the higher, at
/// which it takes twelve microseconds.
const RATES: [&str; 2] = ["1mbit", "1gbit"];

/// Times from a request until its effect is seen by whoever made it.
struct Row {
    what: String,
    times: Vec<Duration>,
    /// Frames of the two that were lost meanwhile, as far as numbers had told by then.
    n_lost: u64,
}

/// How the daemon is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A file is written or removed, and SIGHUP sent; the time begins with the signal.
    Signal,
    /// The same, and a request to read files again, as `weir reload` sends it; the time begins with
    /// the request, by a connection of its own.
    Reload,
    /// A request for the change itself, which the daemon writes to a file, and waits until that is
    /// on the disk.
    Write,
}

struct Measured {
    world: World,
    flood: Flood,
    rows: Vec<Row>,
}

impl Measured {
    fn start() -> Self {
        let mut vms: Vec<_> = ["a", "b", "d"]
            .map(|name| (name, vm("blue", name, "")))
            .into();
        vms.push(("c", limited(RATES[0])));
        let mut world = World::start_by(weir(), MAIN, &vms);
        let flood = Flood::start(&mut world.daemon);
        Self {
            world,
            flood,
            rows: Vec::new(),
        }
    }

    /// One row: `n` times.
    fn measure(&mut self, what: String, n: usize, mut once: impl FnMut(&Self, usize) -> Duration) {
        let before = self.flood.n_wrong();
        let times = (0..n).map(|n| {
            let time = once(self, n);
            // Others have gone on meanwhile.
            self.flood.until_more(1000);
            time
        });
        let times = times.collect();
        self.rows.push(Row {
            what,
            times,
            n_lost: self.flood.n_wrong() - before,
        });
    }

    /// VMs are added one by one, and stay.
    fn add_many(&mut self, way: Way, n: usize) {
        let what = format!("{way:?}: VMs added one by one, up to {n} more");
        self.measure(what, n, |this, n| this.add(way, n));
    }

    fn remove_many(&mut self, way: Way, n: usize) {
        let what = format!("{way:?}: VMs removed one by one, from {n} more on");
        self.measure(what, n, |this, n| this.remove(way, n));
    }

    /// What is seen with so many more VMs there.
    fn measure_with(&mut self, way: Way, n_there: usize, n: usize) {
        let (by, there) = (format!("{way:?}:"), format!("{n_there} VMs there"));
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let before = self.flood.n_wrong();
        for n in 0..n {
            added.push(self.add(way, 1000 + n));
            removed.push(self.remove(way, 1000 + n));
            self.flood.until_more(1000);
        }
        let n_lost = self.flood.n_wrong() - before;
        for (what, times) in [("VM added", added), ("VM removed", removed)] {
            let what = format!("{by} {what}, {there}");
            self.rows.push(Row {
                what,
                times,
                n_lost,
            });
        }
        let what = format!("{by} limit changed, {there}");
        self.measure(what, n, |this, _| this.change_limit(way));
    }

    /// What the disk takes of a [`Way::Write`]: a small file, and its name, until they are on it.
    fn measure_disk(&mut self, n: usize) {
        let folder = self.world.daemon.path("vms.d");
        self.measure("a small file and its name synced".to_owned(), n, |_, _| {
            let begin = Instant::now();
            let file = File::create(folder.join(".synced")).unwrap();
            (&file).write_all(&[b'x'; 100]).unwrap();
            file.sync_all().unwrap();
            File::open(&folder).unwrap().sync_all().unwrap();
            begin.elapsed()
        });
    }

    /// Until its guest can connect.
    fn add(&self, way: Way, n: usize) -> Duration {
        let name = format!("vm{n}");
        let path = self.socket(&name);
        let told = self.tell(way, &name, Some(&vm("blue", &name, "")));
        let time = told.until(|| UnixStream::connect(&path).is_ok());
        self.done(&told);
        time
    }

    /// Until nobody can connect any more.
    fn remove(&self, way: Way, n: usize) -> Duration {
        let name = format!("vm{n}");
        let path = self.socket(&name);
        let told = self.tell(way, &name, None);
        let is_gone = |e: io::Error| e.kind() == io::ErrorKind::NotFound;
        let time = told.until(|| UnixStream::connect(&path).is_err_and(is_gone));
        self.done(&told);
        time
    }

    /// Until its guest sees the first burst at the higher rate.
    fn change_limit(&self, way: Way) -> Duration {
        self.flood.arm();
        let told = self.tell_rate(way, RATES[1]);
        let time = self.flood.seen() - told.at;
        self.done(&told);
        let told = self.tell_rate(way, RATES[0]);
        self.done(&told);
        time
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.world.daemon.path(&format!("{name}.sock"))
    }

    /// A VM shall be as described, or not be there any more.
    fn tell(&self, way: Way, name: &str, vm: Option<&str>) -> Told {
        if way != Way::Write {
            match vm {
                Some(vm) => self.world.write(name, vm),
                None => self.world.erase(name),
            }
        }
        let at = Instant::now();
        let path = format!("/v1/vms/{name}");
        let outcome = match (way, vm) {
            (Way::Signal, _) => {
                let reloading = Some(self.world.request_reload());
                return Told { at, reloading };
            }
            (Way::Reload, _) => self.world.ask("POST", "/v1/reload", None),
            (Way::Write, vm @ Some(_)) => self.world.ask("PUT", &path, vm),
            (Way::Write, None) => self.world.ask("DELETE", &path, None),
        };
        assert_eq!(outcome, Outcome::InForce);
        Told {
            at,
            reloading: None,
        }
    }

    /// The limited VM shall have this rate.
    fn tell_rate(&self, way: Way, rate: &str) -> Told {
        if way != Way::Write {
            return self.tell(way, "c", Some(&limited(rate)));
        }
        let at = Instant::now();
        let body = format!("{{ from-vm: {{ rate: {rate} }} }}");
        let outcome = self.world.ask("PATCH", "/v1/vms/c/limit", Some(&body));
        assert_eq!(outcome, Outcome::InForce);
        Told {
            at,
            reloading: None,
        }
    }

    /// The change is in force, and so says the daemon.
    fn done(&self, told: &Told) {
        if let Some(reloading) = &told.reloading {
            assert_eq!(self.world.outcome(reloading), Outcome::InForce);
        }
    }

    /// Nothing was lost, and nobody had to connect again; what was measured is printed.
    fn end(self) {
        let Self { world, flood, rows } = self;
        let ended = flood.end();
        print(&rows);
        eprintln!(
            "frames sent by the two: {:?}; {:?}",
            ended.n_sent, ended.got
        );
        assert!(ended.n_sent.iter().all(|n| *n > 0), "{ended:?}");
        assert_eq!(ended.n_lost(), 0, "{ended:?}");
        for name in ["a/net0", "b/net0"] {
            let port = world.daemon.port(name);
            assert_eq!(port["connection"]["connections"], 1, "{name}");
            let drops = port["drops"].as_array().unwrap();
            assert!(drops.is_empty(), "{name}: {drops:?}");
        }
    }
}

/// What was requested, and when.
struct Told {
    at: Instant,
    /// None: it has been done.
    reloading: Option<Reloading>,
}

impl Told {
    /// How long it took from the request until it is so.
    fn until(&self, mut is_so: impl FnMut() -> bool) -> Duration {
        while !is_so() {
            assert!(self.at.elapsed() < PATIENCE, "nothing is seen of it");
            std::thread::sleep(Duration::from_micros(50));
        }
        self.at.elapsed()
    }
}

fn limited(rate: &str) -> String {
    vm(
        "blue",
        "c",
        &format!("limit: {{ from-vm: {{ rate: {rate} }} }},"),
    )
}

fn print(rows: &[Row]) {
    eprintln!(
        "{:<44} {:>4} {:>5} {:>8} {:>8} {:>8}",
        "", "n", "lost", "p50 ms", "p99 ms", "max ms"
    );
    for Row {
        what,
        times,
        n_lost,
    } in rows
    {
        let mut times = times.clone();
        times.sort();
        let at = |part: usize| {
            let index = (times.len() * part).div_ceil(100).max(1) - 1;
            times[index].as_secs_f64() * 1e3
        };
        eprintln!(
            "{what:<44} {:>4} {n_lost:>5} {:>8.2} {:>8.2} {:>8.2}",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

fn measure(n_vms: usize, n: usize) {
    let mut measured = Measured::start();
    for way in [Way::Signal, Way::Reload, Way::Write] {
        measured.measure_with(way, 4, n);
        measured.add_many(way, n_vms);
        measured.measure_with(way, 4 + n_vms, n);
        measured.remove_many(way, n_vms);
    }
    measured.measure_disk(n);
    measured.end();
}

#[test]
fn nothing_is_lost_of_two_that_forward_while_others_come_and_go() {
    measure(20, 5);
}

#[test]
#[ignore = "measures, on a quiet machine: ./x reload"]
fn measured_while_200_come_and_go() {
    measure(200, 100);
}
