//! Text of the topology file to checked values.
//!
//! [`load`] reads the file and those it includes and returns a [`Topology`], in which nothing can be wrong that the
//! text alone could show, or a [`Report`] with all mistakes at once. Called from control threads only; never panics
//! over what a user wrote.
//!
//! In reading order:
//! - `topology`: the checked values: what the daemon is given
//! - `remarks`: what in them is no mistake, and perhaps not meant
//! - `source`: files to trees: the main one and those it includes
//! - `node`: YAML to a tree whose every node knows where it is written
//! - `syntax`: why a file is not YAML that can be used
//! - `raw`: mirror of the file: which keys there are, and which are not supported yet
//! - `schema`: the same for people and for editors
//! - `check`: trees to checked values
//! - `context`: what the checks share: mistakes found so far, and what must be unique
//! - `uplink`: one uplink's tree to its checked value
//! - `nic`: one NIC's tree to its checked value
//! - `limit`: one VM's limits to their checked values
//! - `rules`: a NIC's rules to checked values, and which of them another one covers
//! - `scalar`: one value of the file to one checked value
//! - `units`: quantities as people write them: `1gbit`, `200kpps`, `64KiB`, a CPU
//! - `address`: addresses as people write them: `52:54:00:00:00:01`, `10.0.0.0/8`
//! - `nearest`: guessing what was meant by a word that isn't known
//! - `diagnostics`: what is wrong with a file, told as a good compiler tells it
#![forbid(unsafe_code)]

mod address;
mod check;
mod context;
mod diagnostics;
mod limit;
mod nearest;
mod nic;
mod node;
mod raw;
mod remarks;
mod rules;
mod scalar;
mod schema;
mod source;
mod syntax;
mod topology;
mod units;
mod uplink;

pub use address::{Cidr, MacAddr};
pub use diagnostics::{Diagnostic, Report};
pub use nearest::nearest;
pub use schema::{json_schema, schema};
pub use topology::{
    Control, DEFAULT_CONTROL_PATH, DEFAULT_FLOWS, DEFAULT_MTU, DEFAULT_RING, DEFAULT_SOCKET_MODE, Direction, Idle,
    Limit, Listens, MacPolicy, Network, Nic, PortKind, Proto, Rule, Topology, Uplink, Verdict, Vm, VmLimit,
    XDP_MTU_MAX, XdpMode, port_name,
};
pub use units::{BadValue, BitsPerSec, Bytes, CoreId, Micros, PacketsPerSec};
pub use uplink::QUEUES_MAX as DEVICE_QUEUES_MAX;

use std::path::Path;

/// Reads the topology in the file at `path` and those it includes.
///
/// # Errors
/// [`Report`]: all mistakes of all these files at once.
pub fn load(path: &Path) -> Result<Topology, Report> {
    let mut mistakes = context::Mistakes::default();
    let topology = source::load(path, &mut mistakes).and_then(|sources| check::topology(&sources, &mut mistakes));
    mistakes.conclude(topology)
}

/// Reads the topology in `text`; a report calls it `file_name`. It can't include files: nothing but `text` is read.
///
/// # Errors
/// [`Report`]: all mistakes at once.
pub fn parse(text: &str, file_name: &str) -> Result<Topology, Report> {
    let mut mistakes = context::Mistakes::default();
    let sources = source::parse(text, file_name, &mut mistakes);
    let topology = sources.and_then(|sources| check::topology(&sources, &mut mistakes));
    mistakes.conclude(topology)
}
