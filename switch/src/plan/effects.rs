//! What a change of each key does while the daemon runs: the one table of it. `docs/reload.md` has
//! the same, by a test.

use crate::api::difference::Cost;
use Cost::{
    Disconnects, NeedsRestart, Nothing, ReattachesDevice, ReconnectsNic, ReleasesAddress,
    ReopensSocket,
};

/// What a change of a key does.
pub(crate) struct Effect {
    /// The key's path, as `config::key_paths` lists it.
    pub(crate) path: &'static str,
    /// What it interrupts; some keys less under some circumstances, which `about` names.
    pub(crate) cost: Cost,
    /// What it does, for `docs/reload.md`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the document"))]
    pub(crate) about: &'static str,
}

const fn effect(path: &'static str, cost: Cost, about: &'static str) -> Effect {
    Effect { path, cost, about }
}

/// Every key of the file, in the order of the schema.
pub(crate) static EFFECTS: &[Effect] = &[
    effect(
        "cores",
        Nothing,
        "queues move to the cores that there are now, in order and without loss",
    ),
    effect(
        "idle",
        Nothing,
        "the cores sleep, or poll on, from their next turn on",
    ),
    effect(
        "flows",
        NeedsRestart,
        "the flow table is reserved at the start",
    ),
    effect(
        "ports",
        NeedsRestart,
        "room for ports is reserved at the start",
    ),
    effect(
        "control.path",
        ReopensSocket,
        "within its folder: clients find the new socket; the old one is closed last",
    ),
    effect(
        "control.group",
        Nothing,
        "it holds for clients that connect from then on",
    ),
    effect("control.mode", Nothing, "as `group`"),
    effect(
        "metrics.listen",
        ReopensSocket,
        "the new address is listened on, then the old one closed",
    ),
    effect(
        "include",
        Nothing,
        "nothing by itself: VMs that come in or leave by it are added or removed",
    ),
    effect(
        "uplinks.NAME",
        Disconnects,
        "added: its device is attached; removed: its device is given back",
    ),
    effect(
        "uplinks.NAME.device",
        ReattachesDevice,
        "the old device is given back, the new one attached",
    ),
    effect(
        "uplinks.NAME.mode",
        ReattachesDevice,
        "the device is given back and attached anew",
    ),
    effect(
        "uplinks.NAME.queues",
        ReattachesDevice,
        "the device is given back and attached anew",
    ),
    effect(
        "uplinks.NAME.ring",
        ReattachesDevice,
        "the device is given back and attached anew",
    ),
    effect(
        "uplinks.NAME.take",
        Nothing,
        "it holds when the device is attached the next time",
    ),
    effect(
        "networks.NAME",
        Nothing,
        "added or removed; its NICs are named by themselves",
    ),
    effect(
        "networks.NAME.vlan",
        Nothing,
        "frames carry the new tag, and only such are taken from the wire",
    ),
    effect(
        "networks.NAME.uplink",
        Nothing,
        "frames leave by the new uplink, and come from there alone",
    ),
    effect(
        "networks.NAME.mtu",
        Nothing,
        "longer frames are dropped; guests are not told",
    ),
    effect(
        "vms.NAME",
        Nothing,
        "added or removed; its NICs are named by themselves",
    ),
    effect(
        "vms.NAME.labels.NAME",
        Nothing,
        "they are shown from then on",
    ),
    effect(
        "vms.NAME.limit.from-vm.rate",
        Nothing,
        "it holds for the next burst; nothing is given anew",
    ),
    effect("vms.NAME.limit.from-vm.packets", Nothing, "as `rate`"),
    effect("vms.NAME.limit.from-vm.burst", Nothing, "as `rate`"),
    effect(
        "vms.NAME.limit.to-vm.rate",
        Nothing,
        "it holds for the next burst; what is queued stays queued",
    ),
    effect("vms.NAME.limit.to-vm.packets", Nothing, "as `rate`"),
    effect("vms.NAME.limit.to-vm.burst", Nothing, "as `rate`"),
    effect(
        "vms.NAME.limit.to-vm.queue",
        Nothing,
        "it holds for frames that come from then on",
    ),
    effect(
        "vms.NAME.nics.NAME",
        Disconnects,
        "added: its socket or device is there; removed: its guest is disconnected",
    ),
    effect(
        "vms.NAME.nics.NAME.enabled",
        Disconnects,
        "`false` disconnects the guest; `true` interrupts nothing",
    ),
    effect(
        "vms.NAME.nics.NAME.network",
        ReleasesAddress,
        "the guest stays connected; addresses belong to a network",
    ),
    effect(
        "vms.NAME.nics.NAME.mac",
        ReleasesAddress,
        "the guest stays connected; other addresses are dropped at once",
    ),
    effect(
        "vms.NAME.nics.NAME.macs",
        ReleasesAddress,
        "the guest stays connected; its addresses are learned again",
    ),
    effect(
        "vms.NAME.nics.NAME.queues",
        ReconnectsNic,
        "guests ask for it once, as they connect; with `afxdp` the device is attached anew",
    ),
    effect(
        "vms.NAME.nics.NAME.vhost-user.path",
        ReconnectsNic,
        "the guest is disconnected, and finds the new socket",
    ),
    effect(
        "vms.NAME.nics.NAME.vhost-user.listens",
        ReconnectsNic,
        "the other side makes the socket",
    ),
    effect(
        "vms.NAME.nics.NAME.vhost-user.group",
        Nothing,
        "a guest that is connected stays so",
    ),
    effect(
        "vms.NAME.nics.NAME.vhost-user.mode",
        Nothing,
        "a guest that is connected stays so",
    ),
    effect(
        "vms.NAME.nics.NAME.tap.name",
        ReattachesDevice,
        "the old device is given back, the new one attached",
    ),
    effect(
        "vms.NAME.nics.NAME.afxdp.device",
        ReattachesDevice,
        "the old device is given back, the new one attached",
    ),
    effect(
        "vms.NAME.nics.NAME.afxdp.mode",
        ReattachesDevice,
        "the device is given back and attached anew",
    ),
    effect(
        "vms.NAME.nics.NAME.afxdp.ring",
        ReattachesDevice,
        "the device is given back and attached anew",
    ),
    effect(
        "vms.NAME.nics.NAME.rules",
        Nothing,
        "they hold for the next frame, also of flows that there are",
    ),
];

/// The row of a key, with its place in the table; none: there is no such key.
pub(crate) fn effect_of(path: &str) -> Option<(usize, &'static Effect)> {
    EFFECTS
        .iter()
        .enumerate()
        .find(|(_, effect)| effect.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_file_has_a_row_and_no_other() {
        let rows: Vec<_> = EFFECTS.iter().map(|effect| effect.path).collect();
        assert_eq!(rows, config::key_paths());
    }

    #[test]
    fn only_what_is_reserved_at_the_start_needs_a_restart() {
        let rows = EFFECTS
            .iter()
            .filter(|effect| effect.cost == NeedsRestart)
            .map(|effect| effect.path);
        assert_eq!(rows.collect::<Vec<_>>(), ["flows", "ports"]);
    }

    #[test]
    fn table_of_the_document_is_this_one() {
        let row = |effect: &Effect| {
            let interrupts = match effect.cost {
                Nothing => "nothing",
                ReleasesAddress => "nothing; the NIC's address is released",
                ReopensSocket => "nothing; clients connect again",
                ReconnectsNic => "this NIC, until its guest has connected again",
                ReattachesDevice => "this device, until it is attached",
                Disconnects => "this NIC or device",
                NeedsRestart => "needs a restart",
            };
            format!("| `{}` | {} | {interrupts} |\n", effect.path, effect.about)
        };
        let rows: String = EFFECTS.iter().map(row).collect();
        let table = format!("| key | what a change does | interrupts |\n|---|---|---|\n{rows}");
        let page = include_str!("../../../docs/reload.md");
        let (_, rest) = page.split_once("<!-- table: keys -->\n").unwrap();
        let (found, _) = rest.split_once("<!-- end -->").unwrap();
        assert!(found == table, "write into docs/reload.md:\n{table}");
    }
}
