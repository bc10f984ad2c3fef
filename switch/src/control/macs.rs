//! The MAC table and ports' addresses, as operators see them.

use flowtable::mac::entry::{Kind, Row};
use flowtable::{Ingress, PortId, SourcePolicy};
use pmd::time::seconds;

use super::sources::Sources;
use crate::api::mac::{MacReport, mac_text};
use crate::api::port::AddressReport;

/// Every address, by network, port and address.
pub(crate) fn macs(sources: &Sources) -> Vec<MacReport> {
    let now = seconds(sources.clock.now());
    let mut rows = sources.cores.macs().rows();
    rows.sort_by_key(|row| (row.network, row.port, row.mac));
    let pins = sources.cores.macs().pins();
    let names = sources.present().names.clone();
    let name = |port: PortId| names.port(port).unwrap_or_default().to_owned();
    let remark = |row: &Row| {
        let loser = |&&(port, network, mac): &&(PortId, u16, [u8; 6])| {
            (network, mac) == (row.network, row.mac)
                && port != row.port
                && row.away_from != Some(port)
        };
        match (row.away_from, pins.iter().find(loser)) {
            (Some(owner), _) => Some(format!("owned by {}, which is not started", name(owner))),
            (None, Some(&(loser, ..))) => Some(format!("owned by {}, which lost it", name(loser))),
            (None, None) if row.is_disputed => {
                Some("disputed: another port has sent from it since".to_owned())
            }
            (None, None) => None,
        }
    };
    let report = |row: &Row| MacReport {
        remark: remark(row),
        mac: mac_text(row.mac),
        network: names.network(row.network).unwrap_or_default().to_owned(),
        port: name(row.port),
        kind: kind_text(row.kind).to_owned(),
        idle_s: (row.kind < Kind::Sticky).then(|| now.saturating_sub(row.seen)),
    };
    rows.iter().map(report).collect()
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Static => "static",
        Kind::Sticky => "sticky",
        Kind::Learned | Kind::Counted => "learned",
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
