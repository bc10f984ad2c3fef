//! Reads the topology file into checked values.
//!
//! [`load`] reads the file and those it includes. It returns a [`Topology`] without any mistake
//! that the text alone can show, or a [`Report`] with all mistakes at once. It is called from
//! control threads only, and never panics, whatever a user wrote.
//!
//! In reading order:
//! - `topology`: the checked values, which the daemon works from
//! - `edits`: which files have been edited since they were read; `stamp`: which version that was
//! - `object`: what a topology is made of
//! - `origin`: where a topology was written; `vm_file`: where a VM may be written by itself
//! - `rewrite`: a topology in which one VM is added, replaced or removed; `written_vm`: its text
//! - `settings`: a topology as keys with their values, in the words of the file
//! - `remarks`: warnings about a topology that has no mistakes
//! - `source`: reads the main file and those it includes into trees; `include`: which those are
//! - `node`: a YAML tree in which each node has its place in the file
//! - `syntax`: messages for YAML that can't be parsed
//! - `keys`: the table of keys, those not supported yet included
//! - `walk`: compares a tree with that table; `name`: names that users choose
//! - `schema`: the table as text and as JSON Schema
//! - `check`: turns trees into a checked topology
//! - `others`: state in which one VM is checked against all else of a topology
//! - `context`: state that all checks share: mistakes found so far, and what must be unique
//! - `host`: the same for the daemon's own keys: cores, tables, sockets
//! - `uplink`, `nic`, `limit`, `labels`: the same for one uplink, one NIC, one VM's limits and
//!   labels
//! - `rules`: the same for a NIC's rules, which are those of `flowtable`
//! - `scalar`: single values: numbers, choices, devices
//! - `socket`: path, group and mode of a socket
//! - `units`: quantities with units: `1gbit`, `200kpps`, `64KiB`; a CPU
//! - `address`: MAC and IP addresses: `52:54:00:00:00:01`, `10.0.0.0/8`
//! - `nearest`: suggests a known word for an unknown one
//! - `diagnostics`: mistakes with their excerpts, for people
#![forbid(unsafe_code)]

mod address;
mod check;
mod context;
mod diagnostics;
mod edits;
mod host;
mod include;
mod keys;
mod labels;
mod limit;
mod name;
mod nearest;
mod nic;
mod node;
mod object;
mod origin;
mod others;
mod remarks;
mod rewrite;
mod rules;
mod scalar;
mod schema;
mod settings;
mod socket;
mod source;
mod stamp;
mod syntax;
mod topology;
mod units;
mod uplink;
mod vm_file;
mod walk;
mod written_vm;

pub use address::MacAddr;
pub use diagnostics::{Diagnostic, Report};
pub use edits::Edit;
pub use nearest::nearest;
pub use object::ObjectKind;
pub use origin::{Origin, Place};
pub use rewrite::Rewritten;
pub use schema::{json_schema, schema};
pub use settings::{Object, Setting, Written, key_paths};
pub use topology::{
    Control, DEFAULT_CONTROL_PATH, DEFAULT_FLOWS, DEFAULT_MTU, DEFAULT_PORTS, DEFAULT_RING,
    DEFAULT_SOCKET_MODE, Idle, Limit, Listens, MacPolicy, Metrics, Network, Nic, PORTS_MAX,
    PortKind, Topology, Uplink, Vm, VmLimit, XDP_MTU_MAX, XdpMode, port_name,
};
pub use units::{BadValue, BitsPerSec, Bytes, CoreId, Micros, PacketsPerSec};
pub use uplink::QUEUES_MAX as DEVICE_QUEUES_MAX;
pub use vm_file::{NoVmFile, is_same_file};

use std::path::Path;

/// Reads the topology in the file at `path` and those it includes.
///
/// # Errors
/// [`Report`]: all mistakes of all these files at once.
pub fn load(path: &Path) -> Result<Topology, Report> {
    let mut mistakes = context::Mistakes::default();
    let topology = source::load(path, &mut mistakes)
        .and_then(|sources| check::topology(&sources, &mut mistakes));
    mistakes.conclude(topology)
}

/// Reads the topology in `text`, which can't include files; reports name it `file_name`.
///
/// # Errors
/// [`Report`]: all mistakes at once.
pub fn parse(text: &str, file_name: &str) -> Result<Topology, Report> {
    let mut mistakes = context::Mistakes::default();
    let sources = source::parse(text, file_name, &mut mistakes);
    let topology = sources.and_then(|sources| check::topology(&sources, &mut mistakes));
    mistakes.conclude(topology)
}
