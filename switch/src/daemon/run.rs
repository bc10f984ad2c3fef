//! Starts the daemon from a topology, and stops it.
//!
//! Whatever can fail is tried before the first guest can connect: run directory, CPUs, every
//! socket. Threads: a pinned polling thread for each core, a control thread for each port, the
//! supervisor, one for operators, and one for those who read metrics. They stop in the opposite
//! order, so that no control thread waits for a core that has stopped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use config::Topology;
use pmd::Cores;
use pmd::time::Clock;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::change::service::{Served, Service};
use super::change::switch::Switch;
use super::change::vm_file::sweep;
use super::cores::{new_cores, settle_tables};
use super::cpus::choose::Cpus;
use super::files::provide_files;
use super::logging::Log;
use super::notify::{Inbox, Notify};
use super::operators::{Opened, Servers};
use super::pollers::Pollers;
use super::run_dir::RunDir;
use super::running::Means;
use super::socket_note::SocketNote;
use super::sockets::{listened, open_sockets};
use super::threads::{join, spawn};
use super::watchdog::Beats;
use super::{supervisor, tsc, watchdog};
use crate::base::folder::Folder;
use crate::base::lock::lock;
use crate::base::log::LogFormat;
use crate::base::socket::Listening;
use crate::base::stop::Stop;
use crate::control::answer::Refused;
use crate::control::changes::{Asked, Wanted};
use crate::control::limits::Vms;
use crate::control::loads::Loads;
use crate::control::metrics;
use crate::control::polled::PolledCpus;
use crate::control::queue_loads::QueueLoads;
use crate::control::rates::Rates;
use crate::control::server::router;
use crate::control::sources::{Present, Sources};
use crate::control::version::Started;
use crate::device::attached::{AttachedDevice, attach_all};
use crate::device::port::DevicePort;
use crate::device::restore;
use crate::page::routes::page;
use crate::pins::Pins;
use crate::plan::ids::Ids;
use crate::plan::names::Names;
use crate::plan::ports::{PortKind, PortSpec, ports};
use crate::vhost_user::port::Port;

/// Runs the switch that the topology in `file` describes, until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence for each error.
pub(crate) fn run(file: &Path, format: LogFormat) -> Result<(), String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    serve(&topology, format).map_err(|why| format!("error: {why}"))
}

fn serve(topology: &Topology, format: LogFormat) -> Result<(), String> {
    // Its end waits for the last lines.
    let _log = Log::start(format)?;
    // Before any thread starts, so that no thread is killed by one of these signals.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| format!("cannot handle signals: {e}"))?;
    let daemon = Daemon::start(topology)?;
    for signal in &mut signals {
        if signal == SIGHUP {
            daemon.reload();
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
    switch: Arc<Mutex<Switch>>,
    control: Vec<JoinHandle<()>>,
    /// Locked as long as the daemon runs.
    _run_dir: RunDir,
    notify: Notify,
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
        sweep(topology);
        let opened = Opened::new(topology)?;
        let note = SocketNote::take_over(run_dir.folder(), listened(specs.iter(), topology));
        let guests = specs
            .iter()
            .filter(|port| matches!(port.kind, PortKind::Socket(_)));
        let sockets =
            open_sockets(guests, &BTreeSet::new()).map_err(|wrong| wrong.join("\nerror: "))?;
        restore::repair(run_dir.folder());
        let guests: Vec<_> = specs.iter().filter_map(Port::new).map(Arc::new).collect();
        let devices: Vec<_> = specs
            .iter()
            .filter_map(DevicePort::new)
            .map(Arc::new)
            .collect();
        let attached =
            attach_all(&devices, run_dir.folder()).map_err(|wrong| wrong.join("\nerror: "))?;
        cpus.keep_others_off(&[])?;
        cpus.log_control();
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let servers = Servers::new(&stop)?;
        let operators = servers.open(opened)?;
        let cores = Arc::new(new_cores(topology, &ids, &specs)?);
        settle_tables(&cores);
        let names = Arc::new(Names::of(&ids));
        let pins = Arc::new(restore_pins(&cores, run_dir.folder(), &specs, &names));
        let clock = Clock::calibrate();
        tsc::log_doubts(&clock);
        let (notify, inbox) = Notify::new();
        let topology = Arc::new(topology.clone());
        let pollers = Pollers::start(&cores, &cpus, topology.idle, &clock)?;
        let present = Present {
            number: 1,
            topology: topology.clone(),
            ports: guests,
            devices,
            names,
            cores: PolledCpus::default().next(pollers.polled(), &[]),
            vms: Vms::new(&specs),
        };
        let means = Means {
            cores,
            pins,
            run_dir: run_dir.folder().clone(),
        };
        let sources = Arc::new(Sources {
            cores: means.cores.clone(),
            pins: means.pins.clone(),
            rates: Rates::default(),
            loads: Loads::default(),
            queue_loads: QueueLoads::default(),
            clock,
            started: Started::now(),
            present: Mutex::new(Arc::new(present)),
        });
        let n_ports = specs.len();
        let running = (ids, specs, pollers);
        let switch = Switch::new(
            topology.clone(),
            running,
            (means, note),
            (operators, sources.clone()),
        );
        let mut daemon = Self {
            stop,
            switch: Arc::new(Mutex::new(switch)),
            control: Vec::new(),
            _run_dir: run_dir,
            notify,
        };
        // From here on an error stops what was started.
        let started = daemon
            .start_ports(&sources, sockets, attached)
            .and_then(|()| daemon.start_operators(servers, &sources, inbox));
        if let Err(why) = started {
            daemon.end();
            return Err(why);
        }
        info!(
            "running: ports {}, polling on CPU {}, control socket {}",
            n_ports,
            cpus.polled(),
            topology.control.path.display()
        );
        if let Some(metrics) = topology.metrics {
            info!("metrics: http://{}/metrics", metrics.listen);
        }
        daemon.notify.ready();
        Ok(daemon)
    }

    fn start_ports(
        &self,
        sources: &Sources,
        sockets: Vec<Option<Listening>>,
        attached: Vec<Option<AttachedDevice>>,
    ) -> Result<(), String> {
        let present = sources.present();
        present.vms.limit(&sources.cores);
        let mut switch = lock(&self.switch);
        let guests = present.ports.iter().cloned().map(Served::Guest);
        let guests = guests.zip(sockets.into_iter().map(|socket| (socket, None)));
        let devices = present.devices.iter().cloned().map(Served::Device);
        let devices = devices.zip(attached.into_iter().map(|device| (None, device)));
        for (port, (listening, attached)) in guests.chain(devices) {
            let service = Service::new(port, listening, attached, switch.means())?;
            switch.serve(service);
        }
        Ok(())
    }

    /// Starts what answers operators, the supervisor and the watchdog.
    fn start_operators(
        &mut self,
        servers: Servers,
        sources: &Arc<Sources>,
        inbox: Inbox,
    ) -> Result<(), String> {
        let beats = Beats::default();
        let metrics = metrics::routes::router(sources, page(sources.clone()));
        let routers = [router(sources.clone(), self.switch.clone()), metrics];
        let started = servers.start(routers, beats.server.clone())?;
        self.control.extend(started);
        self.start_supervisor(sources, beats, inbox)
    }

    /// Starts the supervisor, and the watchdog, which watches the cores and the control threads
    /// that beat.
    fn start_supervisor(
        &mut self,
        sources: &Arc<Sources>,
        beats: Beats,
        inbox: Inbox,
    ) -> Result<(), String> {
        let (watched, beat) = (sources.clone(), beats.supervisor.clone());
        let (stop, notify) = (self.stop.clone(), self.notify.clone());
        let sources = sources.clone();
        let switch = self.switch.clone();
        let tidy = move || {
            // During a change there is nothing to do that the change doesn't.
            if let Ok(mut switch) = switch.try_lock() {
                switch.tidy();
            }
        };
        let supervise = move || supervisor::run(&sources, (&beat, &notify), tidy, &stop);
        self.control
            .push(spawn("supervisor".to_owned(), supervise)?);
        let watch = move || watchdog::run(&watched, &beats, &inbox);
        self.control.push(spawn("watchdog".to_owned(), watch)?);
        Ok(())
    }

    /// Reads the topology again; what is wrong is logged.
    fn reload(&self) {
        let _reloading = self.notify.reloading();
        let asked = Asked {
            wanted: Wanted::Reload,
            is_dry_run: false,
            topology: None,
        };
        if let Err(why) = lock(&self.switch).change(&asked) {
            let why = Refused::from(why).into_text();
            warn!("nothing has been changed: {why}");
        }
    }

    /// Takes ports and sockets down while the cores still run, then stops the cores.
    fn end(self) {
        self.notify.stopping();
        self.stop.request();
        let (devices, guests) = lock(&self.switch).end();
        for device in devices {
            // A panic was logged already.
            let _ = device.join();
        }
        join(guests);
        join(self.control);
        lock(&self.switch).stop_cores();
        info!("stopped");
    }
}

/// Restores the sticky addresses that an earlier daemon saved. No port takes frames yet.
fn restore_pins(
    cores: &Cores,
    run_dir: &Arc<Folder>,
    specs: &[PortSpec],
    names: &Arc<Names>,
) -> Pins {
    let ingresses = specs.iter().map(|spec| &spec.ingress);
    Pins::restore(
        cores.macs().clone(),
        run_dir,
        restore::world(),
        names.clone(),
        ingresses,
    )
}
