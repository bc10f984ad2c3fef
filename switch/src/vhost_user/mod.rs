//! vhost-user ports: the messages of a guest's front-end, and the socket. One control thread per
//! port; the polling cores only see queues that come and go.
//!
//! In reading order:
//! - `port`: a port and its connection, shared by control threads; `health`: its state
//! - `worker`: a port's control thread: one front-end after another, in either role
//! - `backoff`: how long the next front-end waits after others that left early
//! - `connection`: one front-end, from connection to disconnection; `end`: how it ended; `peek`: a
//!   message before it is read
//! - `others`: limits other connections meanwhile
//! - `changes`: limits how often it changes its queues
//! - `closing`: files that may take long to close
//! - `header`: a message's header, and the messages' names
//! - `handler`: messages as calls: the `vhost` crate's handler
//! - `refusal`: why a message is refused
//! - `regions`: the memory that it shares
//! - `device`: what a front-end has set up, and which queues may run; `queue`: one of them; `view`:
//!   their state
//! - `cores`: what control needs of the polling cores

pub(crate) mod backoff;
pub(crate) mod changes;
pub(crate) mod closing;
pub(crate) mod connection;
pub(crate) mod cores;
pub(crate) mod device;
pub(crate) mod end;
pub(crate) mod handler;
pub(crate) mod header;
pub(crate) mod health;
#[cfg(test)]
pub(crate) mod lingering;
pub(crate) mod others;
mod peek;
pub(crate) mod port;
pub(crate) mod queue;
pub(crate) mod refusal;
pub(crate) mod regions;
pub(crate) mod view;
pub(crate) mod worker;
