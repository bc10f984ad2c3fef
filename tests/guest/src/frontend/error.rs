//! What went wrong between a front-end and its back-end.

use super::*;

/// What failed and why.
#[derive(Debug)]
pub struct FrontendError {
    doing: &'static str,
    why: String,
}

impl fmt::Display for FrontendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vhost-user front-end, {}: {}", self.doing, self.why)
    }
}

impl std::error::Error for FrontendError {}

impl From<io::Error> for FrontendError {
    fn from(e: io::Error) -> Self {
        Self::connecting(e)
    }
}

impl FrontendError {
    pub(crate) fn connecting(e: io::Error) -> Self {
        Self {
            doing: "opening the connection",
            why: e.to_string(),
        }
    }

    pub(crate) fn memory(e: io::Error) -> Self {
        Self {
            doing: "making guest memory",
            why: e.to_string(),
        }
    }

    pub(crate) fn features(had: u64, now: u64) -> Self {
        Self {
            doing: "resuming",
            why: format!("features were {had:#x}, the back-end now grants {now:#x}"),
        }
    }

    pub(crate) fn base(vring: usize, base: u16, used: u16) -> Self {
        Self {
            doing: "stopping",
            why: format!("virtqueue {vring}: GET_VRING_BASE says {base}, the used index is {used}"),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, FrontendError>;

/// Says what was tried when it failed.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|e| FrontendError {
            doing,
            why: e.to_string(),
        })
    }
}
