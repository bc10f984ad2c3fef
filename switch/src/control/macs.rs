//! The MAC table and ports' addresses, as operators see them.

use flowtable::mac::entry::{Kind, Row};
use flowtable::{Ingress, NetworkId, PortId, SourcePolicy};
use pmd::time::seconds;

use super::sources::Sources;
use crate::api::mac::{MacConflict, MacKind, MacReport, mac_text};
use crate::api::port::AddressReport;
use crate::plan::names::Names;

/// Where an address is in the list: network, port, address.
pub(super) type Key = (NetworkId, PortId, [u8; 6]);

/// Every address, in their order.
pub(super) fn rows(sources: &Sources) -> Vec<Row> {
    let mut rows = sources.cores.macs().rows();
    rows.sort_by_key(key);
    rows
}

/// The place of an address.
pub(super) fn key(row: &Row) -> Key {
    (row.network, row.port, row.mac)
}

/// The same for a request: the names of network and port, and the address.
pub(super) fn cursor(names: &Names, row: &Row) -> String {
    let network = names.network(row.network).unwrap_or_default();
    let port = names.port(row.port).unwrap_or_default();
    format!("{network},{port},{}", mac_text(row.mac))
}

/// The place that a cursor names, whether the address is still there or not; none: there is no such
/// network or port.
pub(super) fn key_of(names: &Names, cursor: &str) -> Option<Key> {
    let [network, port, mac] = cursor.split(',').collect::<Vec<_>>().try_into().ok()?;
    let mac: config::MacAddr = mac.parse().ok()?;
    let network = names.networks.iter().position(|known| known == network)?;
    Some((network.try_into().ok()?, names.port_id(port)?, mac.octets()))
}

/// These addresses, as operators see them.
pub(super) fn report(sources: &Sources, names: &Names, rows: &[Row]) -> Vec<MacReport> {
    let now = seconds(sources.clock.now());
    let pins = sources.cores.macs().pins();
    let name = |port: PortId| names.port(port).unwrap_or_default().to_owned();
    let conflict = |row: &Row| {
        let loser = |&&(port, network, mac): &&(PortId, u16, [u8; 6])| {
            (network, mac) == (row.network, row.mac)
                && port != row.port
                && row.away_from != Some(port)
        };
        match (row.away_from, pins.iter().find(loser)) {
            (Some(owner), _) => Some((
                MacConflict::Away,
                format!("owned by {}, which is not started", name(owner)),
            )),
            (None, Some(&(loser, ..))) => Some((
                MacConflict::Lost,
                format!("owned by {}, which lost it", name(loser)),
            )),
            (None, None) if row.is_disputed => Some((
                MacConflict::Disputed,
                "disputed: another port has sent from it since".to_owned(),
            )),
            (None, None) => None,
        }
    };
    let report = |row: &Row| {
        let (conflict, sentence) = conflict(row).unzip();
        MacReport {
            mac: mac_text(row.mac),
            network: names.network(row.network).unwrap_or_default().to_owned(),
            port: name(row.port),
            kind: kind(row.kind),
            idle_seconds: (row.kind < Kind::Sticky).then(|| now.saturating_sub(row.seen)),
            conflict,
            sentence,
        }
    };
    rows.iter().map(report).collect()
}

fn kind(kind: Kind) -> MacKind {
    match kind {
        Kind::Static => MacKind::Static,
        Kind::Sticky => MacKind::Sticky,
        Kind::Learned | Kind::Counted => MacKind::Learned,
    }
}

/// Addresses of the port that `ingress` describes.
pub(crate) fn report_addresses(sources: &Sources, ingress: &Ingress) -> AddressReport {
    let macs = sources.cores.macs();
    let moves = macs.moves(ingress.port);
    let own = match ingress.source {
        SourcePolicy::Fixed(mac) => Some(mac),
        _ => macs
            .pins()
            .into_iter()
            .find(|&(port, ..)| port == ingress.port)
            .map(|(_, _, mac)| mac),
    };
    AddressReport {
        own: own.map(mac_text),
        known: macs.n_addresses(ingress.port),
        lost: moves.n_lost,
        won: moves.n_won,
        away: moves.n_away,
    }
}
