//! The state that reports are built from.

use std::sync::{Arc, Mutex};

use config::Topology;
use pmd::Cores;
use pmd::time::Clock;

use super::limits::Vms;
use super::loads::Loads;
use super::polled::PolledCpus;
use super::queue_loads::QueueLoads;
use super::rates::Rates;
use super::version::Started;
use crate::base::lock::lock;
use crate::device::port::DevicePort;
use crate::pins::Pins;
use crate::plan::names::Names;
use crate::vhost_user::port::Port;

/// The state that reports are built from, shared by control threads and the supervisor.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Counters and cores.
    pub(crate) cores: Arc<Cores>,
    /// Sticky addresses.
    pub(crate) pins: Arc<Pins>,
    /// Frames and bits a second.
    pub(crate) rates: Rates,
    /// Load of the cores.
    pub(crate) loads: Loads,
    /// Load of their queues.
    pub(crate) queue_loads: QueueLoads,
    /// The cores' clock.
    pub(crate) clock: Clock,
    /// When the daemon started.
    pub(crate) started: Started,
    /// What there is.
    pub(crate) present: Mutex<Arc<Present>>,
}

/// What there is, by the topology that is in force. One never changes: another takes its place.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    /// Number of the topology, from 1.
    pub(crate) number: u64,
    /// As the files describe it.
    pub(crate) topology: Arc<Topology>,
    /// Ports with a guest behind a socket, in the topology's order.
    pub(crate) ports: Vec<Arc<Port>>,
    /// Ports that are devices, in the topology's order.
    pub(crate) devices: Vec<Arc<DevicePort>>,
    pub(crate) names: Arc<Names>,
    /// CPUs that are polled on.
    pub(crate) cores: PolledCpus,
    /// VMs with their limits.
    pub(crate) vms: Vms,
}

impl Sources {
    /// Number of the topology that runs, counted from 1 at the start.
    pub(crate) fn topology_number(&self) -> u64 {
        lock(&self.present).number
    }

    /// What there is now.
    pub(crate) fn present(&self) -> Arc<Present> {
        lock(&self.present).clone()
    }
}
