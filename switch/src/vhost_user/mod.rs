//! vhost-user ports: the messages of a guest's front-end, and the socket they come by. One control thread a port; the
//! polling cores see nothing of this but queues that come and go.
//!
//! In reading order:
//! - `attend`: a port's control thread: one front-end after another, in either role
//! - `backoff`: how long the next front-end waits after some that left early
//! - `socket`: sockets at a path: made, connected to, removed
//! - `connection`: one front-end, from connection to disconnection
//! - `changes`: how often it may change its queues
//! - `envelope`: what a message is before it is looked into, and the messages' names
//! - `message`: messages into calls: the `vhost` crate's handler
//! - `regions`: the memory that it shares
//! - `device`: what a front-end has set up so far, and which queues may run

pub(crate) mod attend;
pub(crate) mod backoff;
pub(crate) mod changes;
pub(crate) mod connection;
pub(crate) mod device;
pub(crate) mod envelope;
#[cfg(test)]
pub(crate) mod lingering;
pub(crate) mod message;
pub(crate) mod regions;
