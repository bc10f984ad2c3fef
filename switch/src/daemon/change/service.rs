//! A port with the thread that serves it.

use std::sync::Arc;

use flowtable::PortId;

use crate::base::socket::Listening;
use crate::daemon::running::{Gate, Means, Running};
use crate::device::attached::AttachedDevice;
use crate::device::port::DevicePort;
use crate::plan::ports::PortSpec;
use crate::vhost_user::port::Port;

/// A port, and what serves it once its gate is opened.
#[derive(Debug)]
pub(in crate::daemon) struct Service {
    pub(super) port: Served,
    /// None: it is disabled, and nothing serves it.
    pub(super) running: Option<(Running, Gate)>,
}

/// What is served.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Served {
    Guest(Arc<Port>),
    Device(Arc<DevicePort>),
}

impl Served {
    /// None: it is neither, which no port is.
    pub(super) fn new(spec: &PortSpec) -> Option<Self> {
        let guest = Port::new(spec).map(|port| Self::Guest(Arc::new(port)));
        guest.or_else(|| DevicePort::new(spec).map(|port| Self::Device(Arc::new(port))))
    }

    pub(super) fn device(&self) -> Option<Arc<DevicePort>> {
        match self {
            Self::Guest(_) => None,
            Self::Device(port) => Some(port.clone()),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> PortId {
        match self {
            Self::Guest(port) => port.id(),
            Self::Device(port) => port.id(),
        }
    }

    pub(super) fn spec(&self) -> Arc<PortSpec> {
        match self {
            Self::Guest(port) => port.spec.get(),
            Self::Device(port) => port.spec.get(),
        }
    }
}

impl Service {
    /// `listening` and `attached`: where its guest connects, its device; each if there is one.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files.
    pub(in crate::daemon) fn new(
        port: Served,
        listening: Option<Listening>,
        attached: Option<AttachedDevice>,
        means: &Means,
    ) -> Result<Self, String> {
        let running = match &port {
            _ if !port.spec().enabled => None,
            Served::Guest(port) => Some(Running::guest(port.clone(), listening, means)?),
            Served::Device(port) => Some(Running::device(port.clone(), attached, means)?),
        };
        Ok(Self { port, running })
    }
}
