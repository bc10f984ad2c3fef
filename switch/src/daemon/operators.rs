//! Where operators reach the daemon: the control socket, and the address where metrics are read. A
//! change of the topology can exchange both.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use axum::Router;
use config::{Control, Topology};
use tracing::info;

use super::sockets::open_socket;
use super::threads::spawn;
use crate::base::beat::Beat;
use crate::base::place::{Permitted, Place};
use crate::base::socket::Listening;
use crate::base::stop::Stop;
use crate::base::tcp::TcpListening;
use crate::control::door::{ControlDoor, Doors, MetricsDoor};
use crate::control::metrics::routes::CONNECTIONS_MAX as METRICS_CONNECTIONS_MAX;
use crate::control::server::{CONNECTIONS_MAX, Server};

/// For whom a socket is, in messages.
const CONTROL: &str = "control";
const METRICS: &str = "metrics";

/// Both, before anything can ask.
#[derive(Debug)]
pub(super) struct Opened {
    control: Listening,
    metrics: Option<TcpListening>,
}

/// Two servers that are ready to run, each in a thread of its own.
#[derive(Debug)]
pub(super) struct Servers {
    control: Server<ControlDoor>,
    metrics: Server<MetricsDoor>,
}

/// Where the servers' clients come in.
#[derive(Debug)]
pub(super) struct Operators {
    control: Doors<ControlDoor>,
    metrics: Doors<MetricsDoor>,
    place: Place,
    listening: Option<TcpListening>,
}

/// Where clients will come in; undone by being dropped.
#[derive(Debug, Default)]
pub(super) struct Next {
    control: Option<NextControl>,
    permitted: Option<Permitted>,
    /// None: as before.
    metrics: Option<Option<(TcpListening, MetricsDoor)>>,
}

/// Another control socket.
#[derive(Debug)]
struct NextControl {
    door: ControlDoor,
    place: Place,
    path: PathBuf,
}

impl Opened {
    /// Listens on what the topology names.
    ///
    /// # Errors
    /// A sentence for a person.
    pub(super) fn new(topology: &Topology) -> Result<Self, String> {
        let Control { path, group, mode } = &topology.control;
        let control = Listening::open(CONTROL, path, group.as_deref(), *mode)?;
        let metrics = topology.metrics.map(|metrics| metrics.listen);
        let metrics = metrics.map(|address| TcpListening::open(METRICS, address));
        Ok(Self {
            control,
            metrics: metrics.transpose()?,
        })
    }
}

impl Servers {
    /// Prepares all that can fail.
    ///
    /// # Errors
    /// A sentence: the process has no more files or memory.
    pub(super) fn new(stop: &Stop) -> Result<Self, String> {
        Ok(Self {
            control: Server::new(CONTROL, CONNECTIONS_MAX, stop)?,
            metrics: Server::new(METRICS, METRICS_CONNECTIONS_MAX, stop)?,
        })
    }

    /// Clients come in here, as soon as the servers are started.
    ///
    /// # Errors
    /// A sentence: the process has no more files.
    pub(super) fn open(&self, opened: Opened) -> Result<Operators, String> {
        let Opened { control, metrics } = opened;
        let operators = Operators {
            control: self.control.doors(),
            metrics: self.metrics.doors(),
            place: control.place(),
            listening: metrics.clone(),
        };
        let control = operators.prepare_control(control)?;
        let metrics = metrics.map(|metrics| operators.metrics.prepare(metrics));
        let metrics = metrics.transpose()?;
        operators.control.exchange(Some(control));
        operators.metrics.exchange(metrics);
        Ok(operators)
    }

    /// Serves in threads that end with the stop request. `beat`: that of the control socket's.
    ///
    /// # Errors
    /// A sentence: there are no more threads.
    pub(super) fn start(
        self,
        [control, metrics]: [Router; 2],
        beat: Beat,
    ) -> Result<[JoinHandle<()>; 2], String> {
        let Self {
            control: for_control,
            metrics: for_metrics,
        } = self;
        Ok([
            spawn(CONTROL.to_owned(), move || {
                for_control.run(&control, Some(&beat));
            })?,
            // Nothing depends on it: who scrapes will notice.
            spawn(METRICS.to_owned(), move || {
                for_metrics.run(&metrics, None);
            })?,
        ])
    }
}

impl Operators {
    /// The control socket's path and where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Prepares what another topology says; what is the same in both is not touched. Where this
    /// daemon listens for guests already (`ours`), the new socket is beside that one.
    ///
    /// # Errors
    /// A sentence for a person. Nothing has changed then.
    pub(super) fn prepare(
        &self,
        (before, after): (&Topology, &Topology),
        ours: &BTreeSet<&Path>,
    ) -> Result<Next, String> {
        let mut next = Next::default();
        let (old, new) = (&before.control, &after.control);
        if old.path != new.path {
            let permitted = (new.group.as_deref(), new.mode);
            let control = open_socket(CONTROL, &new.path, permitted, ours)?;
            let place = control.place();
            next.control = Some(NextControl {
                door: self.prepare_control(control)?,
                place,
                path: new.path.clone(),
            });
        } else if old != new {
            let [new, old] = [new, old].map(|of| (of.group.as_deref(), of.mode));
            let permitted = self.place.permit_until_dropped(new, old);
            next.permitted = Some(permitted.map_err(|why| format!("{CONTROL}: {why}"))?);
        }
        if before.metrics != after.metrics {
            let address = after.metrics.map(|metrics| metrics.listen);
            let open = |address| match &self.listening {
                Some(old) => TcpListening::open_beside(METRICS, address, old),
                None => TcpListening::open(METRICS, address),
            };
            let listening = address.map(open).transpose()?;
            let door = listening.map(|listening| {
                let door = self.metrics.prepare(listening.clone())?;
                Ok::<_, String>((listening, door))
            });
            next.metrics = Some(door.transpose()?);
        }
        Ok(next)
    }

    fn prepare_control(&self, listening: Listening) -> Result<ControlDoor, String> {
        // Closing a file that a client sent could block the thread that answers. Older kernels
        // can't refuse files; operators are trusted there.
        pmd::sys::refuse_files(listening.listener().as_fd());
        self.control.prepare(listening)
    }

    /// Clients come in where it was prepared from now on. What is closed is closed last, by its
    /// server; requests that it has taken are answered.
    pub(super) fn commit(&mut self, next: Next) {
        let Next {
            control,
            permitted,
            metrics,
        } = next;
        permitted.into_iter().for_each(Permitted::keep);
        if let Some(NextControl { door, place, path }) = control {
            self.place = place;
            self.control.exchange(Some(door));
            info!("control socket: {}", path.display());
        }
        if let Some(metrics) = metrics {
            let (listening, door) = metrics.unzip();
            match &listening {
                Some(listening) => info!("metrics: http://{}/metrics", listening.address()),
                None => info!("metrics: not served any more"),
            }
            self.listening = listening;
            self.metrics.exchange(door);
        }
    }
}

impl Next {
    /// Where the new control socket is, and where it has to be; none: it stays where it was.
    pub(super) fn place(&self) -> Option<(&Place, &Path)> {
        let next = self.control.as_ref();
        next.map(|next| (&next.place, next.path.as_path()))
    }
}
