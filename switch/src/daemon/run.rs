//! Starts the daemon from a topology, and stops it.
//!
//! Whatever can fail is tried before the first guest can connect: run directory, CPUs, every
//! socket. Threads: a pinned polling thread for each core, a control thread for each port, the
//! supervisor, and a few for operators. They stop in the opposite order, so that no control thread
//! waits for a core that has stopped.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use config::{Listens, Topology};
use pmd::Cores;
use pmd::time::Clock;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::cores::{new_cores, set_static_macs, settle_tables};
use super::cpus::choose::Cpus;
use super::files::provide_files;
use super::logging::log_to_stderr;
use super::run_dir::RunDir;
use super::threads::{join, spawn};
use super::{poller, supervisor, tsc};
use crate::base::socket::Listening;
use crate::base::stop::Stop;
use crate::control::limits::Vms;
use crate::control::loads::Loads;
use crate::control::rates::Rates;
use crate::control::sources::Sources;
use crate::device::attached::{AttachedDevice, attach_all};
use crate::device::port::DevicePort;
use crate::device::restore;
use crate::pins::Pins;
use crate::plan::ids::Ids;
use crate::plan::ports::{PortKind, PortSpec, ports};
use crate::vhost_user::cores::CoresPort;
use crate::vhost_user::port::Port;
use crate::{control, device, vhost_user};

/// Runs the switch that the topology in `file` describes, until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence for each error.
pub(crate) fn run(file: &Path) -> Result<(), String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    serve(&topology).map_err(|why| format!("error: {why}"))
}

fn serve(topology: &Topology) -> Result<(), String> {
    log_to_stderr();
    // Before any thread starts, so that no thread is killed by one of these signals.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| format!("cannot handle signals: {e}"))?;
    let daemon = Daemon::start(topology)?;
    for signal in &mut signals {
        if signal == SIGHUP {
            info!("SIGHUP: nothing to do; a changed topology needs a restart in this version");
            continue;
        }
        info!("stopping");
        break;
    }
    daemon.end();
    Ok(())
}

struct Daemon {
    stop: Stop,
    stop_cores: Arc<AtomicBool>,
    cores: Arc<Cores>,
    clock: Clock,
    control: Vec<JoinHandle<()>>,
    /// Workers of devices: they restore their devices, and hold no file of a front-end.
    device_workers: Vec<JoinHandle<()>>,
    pollers: Vec<JoinHandle<()>>,
    ports: Vec<Arc<Port>>,
    devices: Vec<Arc<DevicePort>>,
    run_dir: RunDir,
}

impl Daemon {
    fn start(topology: &Topology) -> Result<Self, String> {
        if !pmd::sys::cpu_is_new_enough() {
            return Err(
                "this CPU is too old: weir needs AVX2, BMI2 and FMA, as every server CPU since \
                2015 has"
                    .into(),
            );
        }
        let cpus = Cpus::choose(&topology.cores)?;
        let run_dir = RunDir::lock(topology.run_dir())?;
        let ids = Ids::of(topology)?;
        let specs = ports(topology, &ids);
        provide_files(&specs);
        let operators = &topology.control;
        let operators = Listening::open(
            "control",
            &operators.path,
            operators.group.as_deref(),
            operators.mode,
        )?;
        // Closing a file that a client sent could block the thread that answers. Older kernels
        // can't refuse files; operators are trusted there.
        pmd::sys::refuse_files(operators.listener().as_fd());
        let sockets = open_sockets(&specs)?;
        restore::repair(run_dir.folder());
        let devices: Vec<_> = specs
            .iter()
            .filter_map(DevicePort::new)
            .map(Arc::new)
            .collect();
        let attached =
            attach_all(&devices, run_dir.folder()).map_err(|wrong| wrong.join("\nerror: "))?;
        cpus.keep_control_off()?;
        let (cores, pollers) = new_cores(topology, &ids, &specs)?;
        settle_tables(&cores);
        let cores = Arc::new(cores);
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let stop_cores = Arc::new(AtomicBool::new(false));
        let clock = Clock::calibrate();
        tsc::log_doubts(&clock);
        let mut daemon = Self {
            stop,
            stop_cores,
            cores,
            clock,
            control: Vec::new(),
            device_workers: Vec::new(),
            pollers: Vec::new(),
            ports: specs.iter().filter_map(Port::new).map(Arc::new).collect(),
            devices,
            run_dir,
        };
        // From here on an error stops what was started.
        match daemon.start_threads(
            (topology, &ids, &specs),
            &cpus,
            pollers,
            operators,
            sockets,
            attached,
        ) {
            Ok(()) => Ok(daemon),
            Err(why) => {
                daemon.end();
                Err(why)
            }
        }
    }

    fn start_threads(
        &mut self,
        (topology, ids, specs): (&Topology, &Ids, &[PortSpec]),
        cpus: &Cpus,
        pollers: Vec<pmd::Core>,
        operators: Listening,
        sockets: Vec<Option<Listening>>,
        attached: Vec<Option<AttachedDevice>>,
    ) -> Result<(), String> {
        for (core, cpu) in pollers.into_iter().zip(cpus.polling()) {
            self.pollers.push(poller::start(
                core,
                *cpu,
                topology.idle,
                self.clock.clone(),
                self.stop_cores.clone(),
            )?);
        }
        set_static_macs(&self.cores, specs)?;
        let (names, networks) = (ids.port_names(), ids.network_names());
        let pins = Arc::new(self.restore_pins(specs, (names.clone(), networks.clone())));
        let vms = Vms::new(specs);
        vms.limit(&self.cores);
        let ports = self.ports.clone().into_iter().zip(sockets);
        for (port, listening) in ports.filter(|(port, _)| port.spec.enabled) {
            self.start_port(port, pins.clone(), listening)?;
        }
        let devices = self.devices.clone().into_iter().zip(attached);
        for (port, attached) in devices.filter(|(port, _)| port.spec.enabled) {
            self.start_device(port, pins.clone(), attached)?;
        }
        let sources = Arc::new(Sources {
            cores: self.cores.clone(),
            pins,
            ports: self.ports.clone(),
            devices: self.devices.clone(),
            names,
            networks,
            cpus: cpus.polling().iter().map(|core| core.id).collect(),
            rates: Rates::default(),
            vms,
            loads: Loads::default(),
            clock: self.clock.clone(),
        });
        self.start_operators(operators, &sources)?;
        let stop = self.stop.clone();
        self.control.push(spawn("supervisor".to_owned(), move || {
            supervisor::run(&sources, &stop)
        })?);
        let (n_ports, polled) = (self.ports.len() + self.devices.len(), cpus.polled());
        info!(
            "running: ports {n_ports}, polling on CPU {polled}, control socket {}",
            topology.control.path.display()
        );
        if let Some(metrics) = topology.metrics {
            warn!(
                "metrics: this version does not serve them, so nothing listens on {}",
                metrics.listen
            );
        }
        Ok(())
    }

    /// Restores the sticky addresses that an earlier daemon saved. No port takes frames yet.
    fn restore_pins(&self, specs: &[PortSpec], names: (Vec<String>, Vec<String>)) -> Pins {
        let ingresses = specs.iter().map(|spec| &spec.ingress);
        ingresses
            .clone()
            .for_each(|ingress| self.cores.macs().rest(ingress.port));
        Pins::restore(
            self.cores.macs().clone(),
            self.run_dir.folder(),
            restore::world(),
            names,
            ingresses,
        )
    }

    fn start_port(
        &mut self,
        port: Arc<Port>,
        pins: Arc<Pins>,
        listening: Option<Listening>,
    ) -> Result<(), String> {
        let (plane, stop) = (
            CoresPort::new(self.cores.clone(), pins, port.spec.ingress),
            self.stop.clone(),
        );
        let name = port.spec.name.clone();
        self.control.push(spawn(name, move || {
            vhost_user::worker::run(&port, &plane, listening.as_ref(), &stop)
        })?);
        Ok(())
    }

    fn start_device(
        &mut self,
        port: Arc<DevicePort>,
        pins: Arc<Pins>,
        attached: Option<AttachedDevice>,
    ) -> Result<(), String> {
        let (cores, stop, run_dir) = (
            self.cores.clone(),
            self.stop.clone(),
            self.run_dir.folder().clone(),
        );
        let name = port.spec.name.clone();
        let work = move || device::worker::run(&port, (&cores, &pins), attached, &run_dir, &stop);
        self.device_workers.push(spawn(name, work)?);
        Ok(())
    }

    fn start_operators(
        &mut self,
        listening: Listening,
        sources: &Arc<Sources>,
    ) -> Result<(), String> {
        let listening = Arc::new(listening);
        for _ in 0..control::server::THREADS {
            let (listening, sources, stop) =
                (listening.clone(), sources.clone(), self.stop.clone());
            let serve = move || control::server::run(listening.listener(), &sources, &stop);
            self.control.push(spawn("control".to_owned(), serve)?);
        }
        Ok(())
    }

    /// Takes ports and sockets down while the cores still run, then stops the cores.
    fn end(self) {
        self.stop.request();
        for port in &self.ports {
            port.link.close("the daemon ends");
        }
        for thread in self.device_workers {
            // A panic was logged already.
            let _ = thread.join();
        }
        join(self.control);
        self.stop_cores.store(true, Ordering::Release);
        self.cores.wake_all();
        for thread in self.pollers {
            let _ = thread.join();
        }
        info!("stopped");
    }
}

/// Opens every socket that weir listens on, by port, and reports all errors at once.
fn open_sockets(ports: &[PortSpec]) -> Result<Vec<Option<Listening>>, String> {
    let (mut sockets, mut wrong) = (Vec::new(), Vec::new());
    for port in ports {
        let PortKind::Socket(socket) = &port.kind else {
            continue;
        };
        if socket.listens == Listens::Guest || !port.enabled {
            sockets.push(None);
            continue;
        }
        match Listening::open(
            &port.name,
            &socket.path,
            socket.group.as_deref(),
            socket.mode,
        ) {
            Ok(listening) => sockets.push(Some(listening)),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() {
        Ok(sockets)
    } else {
        Err(wrong.join("\nerror: "))
    }
}
