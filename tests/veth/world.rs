//! Network namespaces with veth pairs between them, and a switch whose threads run beside them.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use flowtable::{Ingress, Network, Networks, PortId, SourcePolicy, Trunk};
use pmd::Cores;
use pmd::control::{CoresOptions, PortDown, PortUp};
use pmd::idle::Idle;
use pmd::port::afxdp::{self, AfXdpQueue, XskMode, XskOptions, XskWatch};
use pmd::port::{RxQueue, TxQueue};
use pmd::sys::bpf::{Attach, XdpLink};
use pmd::time::Clock;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One test at a time: they share two CPUs.
static TURN: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whether the test can run. It says so when it can't, and in CI it has to.
pub(crate) fn can_run(test: &str) -> Option<MutexGuard<'static, ()>> {
    let missing = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if let Some(program) = ["ip", "ping", "iperf3", "ethtool"]
        .into_iter()
        .find(|program| !is_there(program))
    {
        program
    } else {
        return Some(TURN.lock().unwrap_or_else(PoisonError::into_inner));
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "in CI nothing may be skipped: {test}: {missing}"
    );
    eprintln!("SKIPPED {test}: needs root, iproute2, ping, iperf3 and ethtool; here: {missing}");
    None
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
        || Command::new(program).arg("-V").output().is_ok()
}

/// Runs a command to its end and gives what it said.
pub(crate) fn run(line: &str) -> String {
    let output = output(line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{line}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn output(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Namespaces `a`, `b` and `sw`: each of the first two has a veth `eth0` to the switch's, where its
/// end is `up-a` or `up-b`. All gone when dropped.
pub(crate) struct World {
    prefix: String,
}

impl World {
    /// With so many queues on every veth.
    pub(crate) fn new(n_queues: u32) -> Self {
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            prefix: format!("uplink-{}-{n}", std::process::id()),
        };
        for name in ["sw", "a", "b"] {
            run(&format!("ip netns add {}", world.name(name)));
            world.run(
                "sysctl -qw net.ipv6.conf.all.autoconf=0 net.ipv6.conf.all.accept_dad=0",
                name,
            );
            world.run(
                "sysctl -qw net.ipv6.conf.default.accept_dad=0 \
                net.ipv6.conf.default.router_solicitations=0",
                name,
            );
            world.run("ip link set lo up", name);
        }
        for (at, name) in ["a", "b"].into_iter().enumerate() {
            let (sw, ns, n) = (world.name("sw"), world.name(name), at + 1);
            let queues = format!("numtxqueues {n_queues} numrxqueues {n_queues}");
            run(&format!(
                "ip link add up-{name} netns {sw} {queues} type veth peer name eth0 netns {ns} \
                {queues}"
            ));
            world.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sw");
            world.run(&format!("ip link set up-{name} up"), "sw");
            world.address(name, "eth0", n);
        }
        world
    }

    /// Gives a device of a namespace the addresses of station `n`, and sets it up.
    pub(crate) fn address(&self, ns: &str, device: &str, n: usize) {
        self.run(
            &format!("ip link set {device} address 02:00:00:00:00:0{n}"),
            ns,
        );
        self.run(&format!("ip link set {device} up"), ns);
        self.run(&format!("ip addr add 10.99.0.{n}/24 dev {device}"), ns);
        self.run(&format!("ip addr add fd99::{n}/64 dev {device} nodad"), ns);
    }

    /// The namespace's name outside.
    pub(crate) fn name(&self, ns: &str) -> String {
        format!("{}-{ns}", self.prefix)
    }

    /// A command in a namespace; gives what it said.
    pub(crate) fn run(&self, line: &str, ns: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.name(ns)))
    }

    /// A command that goes on until the value is dropped.
    pub(crate) fn start(&self, line: &str, ns: &str) -> Running {
        let line = format!("ip netns exec {} {line}", self.name(ns));
        let mut command = Command::new("/usr/bin/env");
        command
            .args(line.split_whitespace())
            .stdout(std::process::Stdio::null());
        Running(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{line}: {error}")),
        )
    }

    /// The kernel's bridge over both devices of the switch's namespace, while `work` is done.
    pub(crate) fn bridged<T>(&self, work: impl FnOnce() -> T) -> T {
        self.run("ip link add br0 type bridge", "sw");
        self.run("ip link set br0 up", "sw");
        for device in ["up-a", "up-b"] {
            self.run(&format!("ip link set {device} master br0"), "sw");
        }
        assert_eq!(self.ping("a", "10.99.0.2", 3), 3);
        let done = work();
        self.run("ip link del br0", "sw");
        done
    }

    /// Work on a thread in a namespace.
    pub(crate) fn inside<T: Send>(&self, ns: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name(ns))).expect("the namespace");
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("to enter it");
                work()
            });
            entered
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The sum of a counter in /proc/net/snmp (or snmp6) over all protocols that have it.
    pub(crate) fn counter(&self, name: &str, ns: &str) -> u64 {
        let text = self.run("cat /proc/net/snmp /proc/net/snmp6", ns);
        let (mut sum, mut names) = (0, Vec::new());
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            if words[0].ends_with(':')
                && words.get(1).is_some_and(|word| word.parse::<i64>().is_ok())
            {
                let found = names.iter().zip(&words).filter(|&(&is, _)| is == name);
                sum += found
                    .map(|(_, value)| value.parse::<u64>().unwrap_or(0))
                    .sum::<u64>();
            } else if words[0].ends_with(':') {
                names = words;
            } else if words[0].ends_with(name) {
                sum += words[1].parse::<u64>().unwrap_or(0);
            }
        }
        sum
    }

    /// How many pings of so many came back.
    pub(crate) fn ping(&self, ns: &str, to: &str, n: u32) -> u32 {
        let text = output(&format!(
            "ip netns exec {} ping -q -i 0.02 -W 2 -c {n} {to}",
            self.name(ns)
        ));
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| word.starts_with("received"))
            .unwrap_or_else(|| panic!("{text}"));
        words[at - 1].parse().unwrap_or_else(|_| panic!("{text}"))
    }

    /// What TCP carries from a namespace to station `to` in another, in Mbit/s of payload.
    pub(crate) fn tcp(&self, from: &str, to: &str, (ns, more): (&str, &str)) -> f64 {
        let server = self.start("iperf3 -s -1", ns);
        self.wait_for_listener(ns);
        let report = self.run(&format!("iperf3 -c {to} -f m {more}"), from);
        drop(server);
        let line = report
            .lines()
            .rev()
            .find(|line| line.contains("receiver"))
            .unwrap_or_else(|| panic!("{report}"));
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| *word == "Mbits/sec")
            .unwrap_or_else(|| panic!("{report}"));
        words[at - 1].parse().unwrap_or_else(|_| panic!("{report}"))
    }

    fn wait_for_listener(&self, ns: &str) {
        // 5201, in the state of those that listen: connections of before may still be there.
        let listens = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(1).is_some_and(|local| local.ends_with(":1451"))
                && words.get(3) == Some(&"0A")
        };
        let is_there = || {
            self.run("cat /proc/net/tcp /proc/net/tcp6", ns)
                .lines()
                .any(listens)
        };
        for _ in 0..2_000 {
            if is_there() {
                return;
            }
            std::thread::yield_now();
        }
        panic!("iperf3 in {ns} never listened");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["a", "b", "sw"] {
            drop(output(&format!("ip netns del {}", self.name(name))));
        }
    }
}

/// A process that is ended when the value is dropped.
pub(crate) struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A device of the switch's namespace as a port. Dropping it takes the program off.
pub(crate) struct Device {
    pub(crate) watches: Vec<XskWatch>,
    _link: XdpLink,
}

/// A switch of some cores, ports 0 and 1 in one network, running.
pub(crate) struct Switch {
    pub(crate) cores: Cores,
    stop: Arc<AtomicBool>,
    clock: Clock,
    threads: Vec<JoinHandle<()>>,
}

/// How the devices of a switch are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) attach: Attach,
    pub(crate) n_queues: u32,
    pub(crate) ring: u32,
}

/// As it is by default.
pub(crate) const NATIVE: Manner = Manner {
    attach: Attach::Native,
    n_queues: 1,
    ring: 2048,
};

impl Switch {
    pub(crate) fn new(n_cores: usize) -> Self {
        let network = Network {
            members: vec![0, 1],
            frame_max: 3512,
            passes_tags: true,
            ..Network::default()
        };
        let networks = Networks {
            networks: vec![network],
            trunks: vec![Trunk::new([(None, 0)])],
            ..Networks::default()
        };
        let networks = Arc::new(networks);
        let options = CoresOptions {
            n_cores,
            n_ports: 2,
            n_flows: 1 << 12,
            n_macs: 1 << 10,
            networks,
            seeds: [1, 2],
        };
        let (cores, pollers) = Cores::new(&options).expect("eventfds");
        let mut switch = Self {
            cores,
            stop: Arc::new(AtomicBool::new(false)),
            clock: Clock::calibrate(),
            threads: Vec::new(),
        };
        switch.threads = pollers.into_iter().map(|core| switch.start(core)).collect();
        switch
    }

    /// Runs a core on a thread of its own, which ends with the core or the switch.
    pub(crate) fn start(&self, core: pmd::Core) -> JoinHandle<()> {
        let (stop, clock) = (self.stop.clone(), self.clock.clone());
        std::thread::spawn(move || core.run(Idle::Adaptive, clock, &stop))
    }

    /// Brings a device of the switch's namespace up as a port.
    pub(crate) fn plug(&self, world: &World, port: PortId, device: &str, manner: Manner) -> Device {
        let queues = world.inside("sw", || open(device, manner));
        let (queues, link) = queues.unwrap_or_else(|error| panic!("{error}"));
        let watches = queues.iter().map(AfXdpQueue::watch).collect();
        let (mut rxqs, mut txqs) = (Vec::new(), Vec::new());
        for AfXdpQueue { rx, tx, info } in queues {
            assert!(!info.is_zero_copy, "a veth copies");
            rxqs.push(RxQueue::afxdp(port, rx));
            txqs.push(TxQueue::afxdp(tx));
        }
        self.up(port, rxqs, txqs);
        Device {
            watches,
            _link: link,
        }
    }

    pub(crate) fn up(&self, port: PortId, rxqs: Vec<RxQueue>, txqs: Vec<TxQueue>) {
        let source = SourcePolicy::Learn(64);
        self.cores.up(PortUp {
            ingress: Ingress {
                port,
                network: 0,
                trunk: None,
                source,
                generation: 1,
            },
            rxqs,
            txqs,
        });
    }

    /// Takes a port down and asserts that each of its frames is at exactly one place.
    pub(crate) fn down(&self, port: PortId) -> PortDown {
        let down = self.cores.down(port);
        for ledger in down
            .rxqs
            .iter()
            .map(RxQueue::ledger)
            .chain(down.txqs.iter().map(TxQueue::ledger))
            .flatten()
        {
            assert!(ledger.is_balanced(), "port {port}: {ledger:?}");
        }
        down
    }

    /// Every frame is in one counter; the switch has come to rest.
    pub(crate) fn assert_balanced(&self) {
        let all = [0, 1].map(|port| self.cores.counters(port));
        assert!(all.iter().all(|counters| counters.is_balanced()), "{all:?}");
        let sum = |of: fn(&pmd::stats::Counters) -> u64| all.iter().map(of).sum::<u64>();
        assert_eq!(sum(|c| c.forwarded), sum(|c| c.tx_frames), "{all:?}");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.cores.wake_all();
        self.threads
            .drain(..)
            .for_each(|thread| drop(thread.join()));
    }
}

/// A device's index, in this thread's namespace.
pub(crate) fn index_of(device: &str) -> u32 {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    name_to_index(&socket, device).expect("a device")
}

/// All queues of a device, and the program that leads frames to them.
pub(crate) fn open(
    device: &str,
    manner: Manner,
) -> Result<(Vec<AfXdpQueue>, XdpLink), pmd::SetupError> {
    let Manner {
        attach,
        n_queues,
        ring,
    } = manner;
    let options = |queue| XskOptions {
        device: device.into(),
        queue,
        mode: XskMode::Copy,
        attach,
        is_veth: true,
        n_rx: ring,
        n_tx: ring,
    };
    let queues = (0..n_queues)
        .map(|queue| afxdp::open(&options(queue)))
        .collect::<Result<Vec<_>, _>>()?;
    let link = XdpLink::attach(index_of(device), attach, n_queues)?;
    for (n, queue) in (0..).zip(&queues) {
        link.serve(n, queue.socket().expect("a socket"))?;
    }
    Ok((queues, link))
}
