//! From a topology to a running daemon, and back.
//!
//! All that can fail is tried before the first guest can connect: folder, CPUs, every socket. Threads: a polling one for
//! each core, pinned; a control thread for each port; the supervisor; a few for operators. When the end is requested they
//! go in the opposite order, so that no port is taken down by a thread that waits for a core that is gone.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use config::{Listens, MacPolicy, Nic, PortKind, Topology};
use flowtable::mac::entry::Learned;
use flowtable::mac::reserve;
use flowtable::{Ingress, Network, Networks, PortId, SourcePolicy};
use pmd::Fleet;
use pmd::fleet::FleetOptions;
use pmd::time::Clock;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::cpus::choose::Cpus;
use super::run_dir::RunDir;
use super::{poller, supervisor, tsc};
use crate::base::log;
use crate::base::socket::Listening;
use crate::base::stop::Stop;
use crate::control::limits::Vms;
use crate::control::loads::Loads;
use crate::control::rates::Rates;
use crate::control::sources::Sources;
use crate::device::port::DevicePort;
use crate::device::restore;
use crate::device::worker::{Seat, take_all};
use crate::pins::Pins;
use crate::plan::ports::{UPLINK_MACS, device_ports, exit, trunks, uplink_port};
use crate::plan::rules;
use crate::vhost_user::cores::FleetPlane;
use crate::vhost_user::port::{Link, Port};
use crate::vhost_user::worker::attend;
use crate::{control, device};

/// Addresses that one NIC with `macs: any` may have at most, all of which the MAC table has room for beside those that others
/// were granted: whoever uses up its own takes nobody's. Many such NICs share [`MACS_ANY_ALL`].
const MACS_ANY: usize = 1 << 17;
/// Addresses that all such NICs together may have.
const MACS_ANY_ALL: usize = 1 << 21;
/// Files that are open whatever the topology.
const FILES_BASE: u64 = 64;
/// When the daemon ends, how long it waits for the next of its control threads.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Stack of a control thread: they are many, and go nowhere deep.
const CONTROL_STACK: usize = 1 << 20;

/// Runs the switch that the topology in `file` describes, until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence, or one for each thing that is wrong.
pub(crate) fn run(file: &Path) -> Result<(), String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    serve(&topology).map_err(|why| format!("error: {why}"))
}

fn serve(topology: &Topology) -> Result<(), String> {
    log_to_stderr();
    // Before any thread starts, so that none of them is chosen by the kernel to be ended by a signal.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|e| format!("cannot handle signals: {e}"))?;
    let daemon = Daemon::start(topology)?;
    for signal in &mut signals {
        if signal == SIGHUP {
            info!("SIGHUP: nothing to do; a changed topology needs a restart in this version");
            continue;
        }
        info!("ending");
        break;
    }
    daemon.end();
    Ok(())
}

struct Daemon {
    stop: Stop,
    stop_cores: Arc<AtomicBool>,
    fleet: Arc<Fleet>,
    clock: Clock,
    control: Vec<JoinHandle<()>>,
    /// Of devices: they give them back as they were, and hold no file of a front-end's.
    giving_back: Vec<JoinHandle<()>>,
    cores: Vec<JoinHandle<()>>,
    ports: Vec<Arc<Port>>,
    devices: Vec<Arc<DevicePort>>,
    run_dir: RunDir,
}

impl Daemon {
    fn start(topology: &Topology) -> Result<Self, String> {
        if !pmd::sys::cpu_is_new_enough() {
            return Err("this CPU is too old: weir needs AVX2, BMI2 and FMA, as every server CPU since 2015 has".into());
        }
        let cpus = Cpus::choose(&topology.cores)?;
        let run_dir = RunDir::take(topology.run_dir())?;
        provide_files(topology);
        let operators = &topology.control;
        let operators = Listening::open("control", &operators.path, operators.group.as_deref(), operators.mode)?;
        // A file that takes long to close would hold the thread that answers. Where the kernel can't, operators are trusted.
        pmd::sys::refuse_files(operators.listener().as_fd());
        let sockets = open_sockets(topology)?;
        restore::repair(run_dir.folder());
        let any_max = any_max(topology);
        let devices = device_ports(topology, |id, nic| ingress(id, nic, any_max));
        let seats = take_all(&devices, run_dir.folder()).map_err(|wrong| wrong.join("\nerror: "))?;
        cpus.keep_control_off()?;
        let (fleet, cores) = new_fleet(topology)?;
        settle_tables(&fleet);
        let fleet = Arc::new(fleet);
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let stop_cores = Arc::new(AtomicBool::new(false));
        let clock = Clock::calibrate();
        tsc::say_doubts(&clock);
        let mut daemon = Self {
            stop,
            stop_cores,
            fleet,
            clock,
            control: Vec::new(),
            giving_back: Vec::new(),
            cores: Vec::new(),
            ports: make_ports(topology),
            devices,
            run_dir,
        };
        // From here on an error ends what has been started.
        match daemon.start_threads(topology, &cpus, cores, operators, sockets, seats) {
            Ok(()) => Ok(daemon),
            Err(why) => {
                daemon.end();
                Err(why)
            }
        }
    }

    fn start_threads(
        &mut self,
        topology: &Topology,
        cpus: &Cpus,
        cores: Vec<pmd::Core>,
        operators: Listening,
        sockets: Vec<Option<Listening>>,
        seats: Vec<Option<Seat>>,
    ) -> Result<(), String> {
        for (core, cpu) in cores.into_iter().zip(cpus.polling()) {
            self.cores.push(poller::start(core, *cpu, topology.idle, self.clock.clone(), self.stop_cores.clone())?);
        }
        let ports = self.ports.iter().map(|port| (&port.name, &port.ingress));
        let devices = self.devices.iter().map(|port| (&port.name, &port.ingress));
        set_static_macs(&self.fleet, ports.chain(devices))?;
        let pins = Arc::new(self.restore_pins(topology));
        let vms = Vms::new(topology);
        vms.limit(&self.fleet);
        for (port, listening) in self.ports.clone().into_iter().zip(sockets) {
            self.start_port(port, pins.clone(), listening)?;
        }
        for (port, seat) in self.devices.clone().into_iter().zip(seats) {
            self.start_device(port, pins.clone(), seat)?;
        }
        let sources = Arc::new(Sources {
            fleet: self.fleet.clone(),
            pins,
            ports: self.ports.clone(),
            devices: self.devices.clone(),
            names: port_names(topology),
            networks: network_names(topology),
            cpus: cpus.polling().iter().map(|core| core.id).collect(),
            rates: Rates::default(),
            vms,
            loads: Loads::default(),
            clock: self.clock.clone(),
        });
        self.start_operators(operators, &sources)?;
        let stop = self.stop.clone();
        self.control.push(spawn("supervisor".to_owned(), move || supervisor::run(&sources, &stop))?);
        let (n_ports, polled) = (self.ports.len() + self.devices.len(), cpus.polled());
        info!("running: ports {n_ports}, polling on CPU {polled}, control socket {}", topology.control.path.display());
        Ok(())
    }

    /// What an earlier daemon knew of addresses that stuck. No port takes frames yet.
    fn restore_pins(&self, topology: &Topology) -> Pins {
        let guests = self.ports.iter().map(|port| &port.ingress);
        let ingresses = guests.chain(self.devices.iter().map(|port| &port.ingress));
        ingresses.clone().for_each(|ingress| self.fleet.macs().rest(ingress.port));
        let names = (port_names(topology), network_names(topology));
        Pins::restore(self.fleet.macs().clone(), self.run_dir.folder(), restore::world(), names, ingresses)
    }

    fn start_port(&mut self, port: Arc<Port>, pins: Arc<Pins>, listening: Option<Listening>) -> Result<(), String> {
        let (plane, stop) = (FleetPlane::new(self.fleet.clone(), pins, port.ingress), self.stop.clone());
        let name = port.name.clone();
        self.control.push(spawn(name, move || attend(&port, &plane, listening.as_ref(), &stop))?);
        Ok(())
    }

    fn start_device(&mut self, port: Arc<DevicePort>, pins: Arc<Pins>, seat: Option<Seat>) -> Result<(), String> {
        let (fleet, stop, run_dir) = (self.fleet.clone(), self.stop.clone(), self.run_dir.folder().clone());
        let name = port.name.clone();
        let attend = move || device::worker::attend(&port, (&fleet, &pins), seat, &run_dir, &stop);
        self.giving_back.push(spawn(name, attend)?);
        Ok(())
    }

    fn start_operators(&mut self, listening: Listening, sources: &Arc<Sources>) -> Result<(), String> {
        let listening = Arc::new(listening);
        for _ in 0..control::server::THREADS {
            let (listening, sources, stop) = (listening.clone(), sources.clone(), self.stop.clone());
            let serve = move || control::server::run(listening.listener(), &sources, &stop);
            self.control.push(spawn("control".to_owned(), serve)?);
        }
        Ok(())
    }

    /// Ports go down and their sockets away while the cores still run; then the cores.
    fn end(self) {
        self.stop.request();
        for port in &self.ports {
            port.link.close("the daemon ends");
        }
        for thread in self.giving_back {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        join(self.control);
        self.stop_cores.store(true, Ordering::Release);
        self.fleet.wake_all();
        for thread in self.cores {
            let _ = thread.join();
        }
        info!("ended");
    }
}

/// Starts a control thread.
fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = Builder::new().name(name).stack_size(CONTROL_STACK).spawn(work);
    thread.map_err(|e| format!("cannot start a control thread: {e}"))
}

/// Waits for threads until none of them has ended for a while, and says which have not. They end with the process: some file that a
/// front-end has given them may never let go of them.
fn join(mut threads: Vec<JoinHandle<()>>) {
    let (begun, mut ended_at, mut n) = (Instant::now(), Instant::now(), threads.len());
    loop {
        // A thread that panicked has said so.
        threads.retain(|thread| !thread.is_finished());
        if threads.is_empty() {
            return;
        }
        if threads.len() < n {
            (n, ended_at) = (threads.len(), Instant::now());
        }
        if ended_at.elapsed() > ENDS_WITHIN || begun.elapsed() > 5 * ENDS_WITHIN {
            let names: Vec<_> = threads.iter().filter_map(|thread| thread.thread().name()).collect();
            return warn!("ending without threads that do not end: {}", names.join(", "));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn log_to_stderr() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::INFO)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        // A log that nobody can read any more must not end the switch.
        .log_internal_errors(false);
    // It fails if there is a subscriber already, which then serves as well.
    let _ = subscriber.try_init();
}

/// Sees to it that as many files can be open as the guests may send.
fn provide_files(topology: &Topology) {
    let in_force = pmd::sys::raise_open_files();
    let needed = files_needed(topology);
    if in_force < needed {
        warn!(
            "with all guests connected up to {needed} files are open, {in_force} are allowed: raise the limit \
             (LimitNOFILE= of the service, or ulimit -n)"
        );
    }
}

/// A socket, a connection with two more handles, two of whoever makes its pages, and three eventfds for each queue.
fn files_needed(topology: &Topology) -> u64 {
    let per_nic = |nic: &Nic| 6 + 2 * 3 * u64::from(nic.queues);
    FILES_BASE + topology.nics().map(|(_, nic)| per_nic(nic)).sum::<u64>()
}

/// Every socket that this side makes, by port. All that is wrong is said at once.
fn open_sockets(topology: &Topology) -> Result<Vec<Option<Listening>>, String> {
    let (mut sockets, mut wrong) = (Vec::new(), Vec::new());
    for (vm, nic) in topology.nics() {
        let PortKind::VhostUser { path, listens, group, mode } = &nic.port else {
            continue;
        };
        if *listens == Listens::Guest {
            sockets.push(None);
            continue;
        }
        match Listening::open(&config::port_name(vm, nic), path, group.as_deref(), *mode) {
            Ok(listening) => sockets.push(Some(listening)),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(sockets) } else { Err(wrong.join("\nerror: ")) }
}

fn new_fleet(topology: &Topology) -> Result<(Fleet, Vec<pmd::Core>), String> {
    let n_ports = topology.nics().count() + topology.uplinks.len();
    let id_max = usize::from(PortId::MAX);
    if n_ports > id_max || topology.networks.len() > id_max {
        return Err(format!(
            "{n_ports} NICs and uplinks in {} networks: {id_max} of each are the most",
            topology.networks.len()
        ));
    }
    let options = FleetOptions {
        n_cores: topology.cores.len(),
        n_ports,
        n_flows: topology.flows,
        n_macs: n_macs(topology),
        networks: Arc::new(networks(topology).with_policies(rules::policies(topology), 1)),
        seeds: seeds(),
    };
    Fleet::new(&options).map_err(|e| e.to_string())
}

/// Without large pages the switch is as good, and slower with many flows. Where memory runs short, it is better known now.
fn settle_tables(fleet: &Fleet) {
    const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let are_off = std::fs::read_to_string(SETTING).is_ok_and(|text| text.contains("[never]"));
    match fleet.settle() {
        Err(why) => {
            warn!("the tables of flows and addresses don't lie in large pages, or not wholly in memory yet: {why}")
        }
        Ok(()) if are_off => info!("flows and addresses lie in small pages, since {SETTING} says so"),
        Ok(()) => {}
    }
}

fn n_macs(topology: &Topology) -> usize {
    let of_nic = |nic: &Nic| match nic.mac {
        MacPolicy::Fixed(_) | MacPolicy::Sticky => 1,
        MacPolicy::Learn(n) => usize::try_from(n).unwrap_or(MACS_ANY).min(MACS_ANY),
        MacPolicy::Any => 0,
    };
    let granted: usize = topology.nics().map(|(_, nic)| of_nic(nic)).sum();
    let of_uplinks = topology.uplinks.len() * usize::try_from(UPLINK_MACS).unwrap_or(0);
    let of_networks = topology.networks.len() * usize::try_from(reserve::ADDRESSES).unwrap_or(0);
    (granted + of_uplinks + of_networks + n_any(topology) * any_max(topology)).max(1024)
}

/// NICs with `macs: any`.
fn n_any(topology: &Topology) -> usize {
    topology.nics().filter(|(_, nic)| nic.mac == MacPolicy::Any).count()
}

/// What "any" comes to for one of them.
fn any_max(topology: &Topology) -> usize {
    (MACS_ANY_ALL / n_any(topology).max(1)).min(MACS_ANY)
}

fn networks(topology: &Topology) -> Networks {
    let members = |network_idx: usize| {
        let of_network = move |(id, (_, nic)): (PortId, (_, &Nic))| (nic.network_idx == network_idx).then_some(id);
        let nics = (0..).zip(topology.nics()).filter_map(of_network);
        let uplink = topology.networks[network_idx].uplink_idx.map(|uplink_idx| uplink_port(topology, uplink_idx));
        nics.chain(uplink).collect()
    };
    let network = |(network_idx, network): (usize, &config::Network)| Network {
        members: members(network_idx),
        // Ethernet's header is not part of the MTU.
        frame_max: u32::from(network.mtu) + 14,
        // One with a VLAN of its own is an access network, where a guest's own tags have no business.
        passes_tags: network.vlan.is_none() && network.uplink_idx.is_none(),
        uplink: exit(topology, network),
        ..Network::default()
    };
    let networks = topology.networks.iter().enumerate().map(network).collect();
    Networks { networks, trunks: trunks(topology), ..Networks::default() }
}

/// Nobody outside can know them: they are those of the standard library's hash maps.
fn seeds() -> [u64; 2] {
    use std::hash::{BuildHasher, RandomState};
    [0, 1].map(|n: u64| RandomState::new().hash_one(n))
}

fn make_ports(topology: &Topology) -> Vec<Arc<Port>> {
    let any_max = any_max(topology);
    let make = |(id, (vm, nic)): (PortId, (&config::Vm, &Nic))| {
        let PortKind::VhostUser { path, listens, .. } = &nic.port else { return None };
        let name = config::port_name(vm, nic);
        Some(Arc::new(Port {
            network: topology.network_of(nic).name.clone(),
            ingress: ingress(id, nic, any_max),
            n_pairs: nic.queues,
            path: path.clone(),
            listens: *listens,
            rules: nic.rules.iter().map(ToString::to_string).collect(),
            link: Link::default(),
            changes: Default::default(),
            closing: Default::default(),
            refusing: Default::default(),
            notes: log::Notes::new(&name),
            name,
        }))
    };
    (0..).zip(topology.nics()).filter_map(make).collect()
}

fn port_names(topology: &Topology) -> Vec<String> {
    let nics = topology.nics().map(|(vm, nic)| config::port_name(vm, nic));
    nics.chain(topology.uplinks.iter().map(|uplink| uplink.name.clone())).collect()
}

fn network_names(topology: &Topology) -> Vec<String> {
    topology.networks.iter().map(|network| network.name.clone()).collect()
}

fn ingress(port: PortId, nic: &Nic, any_max: usize) -> Ingress {
    let source = match nic.mac {
        MacPolicy::Fixed(mac) => SourcePolicy::Fixed(mac.octets()),
        MacPolicy::Sticky => SourcePolicy::Sticky,
        MacPolicy::Learn(n) => SourcePolicy::Learn(n),
        MacPolicy::Any => SourcePolicy::Any(u32::try_from(any_max).unwrap_or(u32::MAX)),
    };
    // There are as many networks as fit: see `new_fleet`.
    let network = u16::try_from(nic.network_idx).unwrap_or(u16::MAX);
    Ingress { port, network, trunk: None, source, generation: 1 }
}

/// Addresses of the topology are known before their guests speak.
fn set_static_macs<'p>(fleet: &Fleet, ports: impl Iterator<Item = (&'p String, &'p Ingress)>) -> Result<(), String> {
    for (name, &ingress) in ports {
        let Ingress { port: id, network, source: SourcePolicy::Fixed(mac), .. } = ingress else { continue };
        let learned = fleet.macs().learn(network, mac, id, flowtable::mac::entry::Kind::Static, 1, 0);
        if !matches!(learned, Learned::Yes(_)) {
            return Err(format!("{name}: there is no room in the MAC table for its address"));
        }
    }
    Ok(())
}
