//! The state that reports are built from.

use std::sync::Arc;

use pmd::Cores;
use pmd::time::Clock;

use super::limits::Vms;
use super::loads::Loads;
use super::rates::Rates;
use crate::device::port::DevicePort;
use crate::pins::Pins;
use crate::vhost_user::port::Port;

/// The state that reports are built from, shared by control threads and the supervisor.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Counters and cores.
    pub(crate) cores: Arc<Cores>,
    /// Sticky addresses.
    pub(crate) pins: Arc<Pins>,
    /// Ports with a guest behind a socket, by id.
    pub(crate) ports: Vec<Arc<Port>>,
    /// Ports that are devices, by id.
    pub(crate) devices: Vec<Arc<DevicePort>>,
    /// Names of all ports, by id.
    pub(crate) names: Vec<String>,
    /// Names of the networks by id.
    pub(crate) networks: Vec<String>,
    /// CPUs that are polled on, by core.
    pub(crate) cpus: Vec<usize>,
    /// Frames and bits a second.
    pub(crate) rates: Rates,
    /// VMs with their limits.
    pub(crate) vms: Vms,
    /// Load of the cores.
    pub(crate) loads: Loads,
    /// The cores' clock.
    pub(crate) clock: Clock,
}
