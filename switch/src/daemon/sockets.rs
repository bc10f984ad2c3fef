//! The sockets on which weir listens.

use std::collections::BTreeSet;
use std::path::Path;

use config::{Listens, Topology};

use crate::base::all::all;
use crate::base::socket::Listening;
use crate::plan::ports::{PortKind, PortSpec};

/// Paths of the sockets on which weir listens: for the guests of these ports, and for operators.
pub(super) fn listened<'a>(
    ports: impl Iterator<Item = &'a PortSpec>,
    topology: &'a Topology,
) -> impl Iterator<Item = &'a Path> {
    let of_guests = ports.filter_map(|port| match &port.kind {
        PortKind::Socket(socket) if port.enabled && socket.listens == Listens::Weir => {
            Some(socket.path.as_path())
        }
        _ => None,
    });
    of_guests.chain([topology.control.path.as_path()])
}

/// Opens the socket of each of these ports on which weir listens, in order; none: it doesn't. Where
/// this daemon listens already (`ours`), the new socket is beside the old one.
///
/// # Errors
/// A sentence for each; no socket is left then.
pub(super) fn open_sockets<'a>(
    ports: impl Iterator<Item = &'a PortSpec>,
    ours: &BTreeSet<&Path>,
) -> Result<Vec<Option<Listening>>, Vec<String>> {
    all(ports.map(|port| {
        let PortKind::Socket(socket) = &port.kind else {
            return Ok(None);
        };
        if socket.listens == Listens::Guest || !port.enabled {
            return Ok(None);
        }
        let permitted = (socket.group.as_deref(), socket.mode);
        open_socket(&port.name, &socket.path, permitted, ours).map(Some)
    }))
}

/// Opens one, for `whom`, with this group and mode.
///
/// # Errors
/// A sentence for a person.
pub(super) fn open_socket(
    whom: &str,
    path: &Path,
    (group, mode): (Option<&str>, u32),
    ours: &BTreeSet<&Path>,
) -> Result<Listening, String> {
    match ours.contains(path) {
        true => Listening::open_beside(whom, path, group, mode),
        false => Listening::open(whom, path, group, mode),
    }
}
