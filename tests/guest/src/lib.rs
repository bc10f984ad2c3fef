//! A software guest for a vhost-user switch: the driver half of virtio-net, with checks on the
//! device, written without a line of the switch. `GuestDriver` works in plain memory; the front-end
//! puts it behind a socket; the program `guest` makes it a generator, a sink, a host that answers
//! ping, or a guest that misbehaves.
#![deny(unsafe_code)]

/// A naive device, to test the driver with.
pub mod device;
/// The driver's half of a virtio-net device.
pub mod driver;
/// The virtio-net header.
pub mod header;
/// Regions of guest memory, by guest-physical address.
#[allow(unsafe_code)]
pub mod memory;
/// Ring sizes, features, buffer shapes, memory layout.
pub mod options;
/// The driver's half of one split virtqueue.
pub mod ring;

/// Load: flood and sink.
pub mod flood;
/// Frames for load, flow by flow.
pub mod flows;
/// The vhost-user front-end.
pub mod frontend;
/// Driver and connection together.
pub mod guest;
/// Chains, rings and headers that break the rules, by name.
pub mod hostile;
/// Messages that break the rules, by name.
pub mod hostile_messages;
/// Rings without bookkeeping.
#[allow(unsafe_code)]
pub mod lean;
/// Frames with numbers, and what of them has come.
pub mod numbers;
/// Latency: one frame there and back.
pub mod pingpong;
/// Raw vhost-user messages.
pub mod raw;
/// ARP, ping, test frames and their verification.
pub mod stack;
/// System calls and the cycle counter.
#[allow(unsafe_code)]
pub mod sys;

mod arena;
mod buffers;

pub use driver::{Counters, GuestDriver, Received};
pub use frontend::{FrontendError, Manner, Session, Socket};
pub use guest::Guest;
pub use header::NetHeader;
pub use memory::GuestMemory;
pub use options::{Backing, Indirect, Layout, Options};
