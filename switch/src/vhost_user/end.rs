//! How a connection ended.

use vhost::vhost_user::Error;

use super::header::Header;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The front-end went away.
    Gone,
    /// It went away before any queue ran: the end of a sentence about it.
    Left(String),
    /// weir closed it, for this reason.
    Closed(String),
    /// The daemon stops.
    Stopping,
}

impl End {
    /// What an error of the `vhost` crate means: the stream has ended, or can't be parsed any more.
    pub(super) fn of(error: &Error, header: Header) -> Self {
        match error {
            Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_) => End::Gone,
            other => End::Closed(format!("{}: {other}", header.name())),
        }
    }
}
