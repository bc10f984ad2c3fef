//! How a connection ended.

use vhost::vhost_user::Error;

use super::header::Header;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The front-end went away.
    Gone,
    /// It went away before any queue ran; what it did, as the end of a sentence about it.
    Left(String),
    /// We closed it, and why.
    Closed(String),
    /// The daemon ends.
    Stopping,
}

impl End {
    /// What an error of the crate means: the stream is at an end, or can't be understood any more.
    pub(super) fn of(error: &Error, header: Header) -> Self {
        match error {
            Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_) => End::Gone,
            other => End::Closed(format!("{}: {other}", header.name())),
        }
    }
}
