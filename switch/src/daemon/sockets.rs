//! The sockets on which weir listens for guests.

use std::collections::BTreeSet;
use std::path::Path;

use config::Listens;

use crate::base::all::all;
use crate::base::socket::{Listening, remove_left_beside};
use crate::plan::ports::{PortKind, PortSpec};

/// Removes what an earlier daemon that was killed in a change left beside the sockets of these
/// ports.
pub(super) fn tidy<'a>(ports: impl Iterator<Item = &'a PortSpec>) {
    let folders: BTreeSet<_> = ports
        .filter_map(|port| match &port.kind {
            PortKind::Socket(socket) if socket.listens == Listens::Weir => socket.path.parent(),
            _ => None,
        })
        .collect();
    folders.into_iter().for_each(remove_left_beside);
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
        let open = if ours.contains(socket.path.as_path()) {
            Listening::open_beside
        } else {
            Listening::open
        };
        let group = socket.group.as_deref();
        open(&port.name, &socket.path, group, socket.mode).map(Some)
    }))
}
