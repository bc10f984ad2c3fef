//! vhost-user ports: the messages of a guest's front-end, and the socket they come by. One control thread a port; the
//! polling cores see nothing of this but queues that come and go.
//!
//! In reading order:
//! - `attend`: a port's control thread: one front-end after another, in either role
//! - `socket`: sockets at a path: made, connected to, removed
//! - `connection`: one front-end, from connection to disconnection
//! - `envelope`: what a message is before it is looked into, and the messages' names
//! - `message`: messages into calls: the `vhost` crate's handler
//! - `device`: what a front-end has set up so far, and which queues may run

pub(crate) mod attend;
pub(crate) mod connection;
pub(crate) mod device;
pub(crate) mod envelope;
pub(crate) mod message;
pub(crate) mod socket;
