//! Offloads of a device that are switched off while the switch has it.

/// Offloads that hide from XDP what was on the wire: VLAN tags stripped, frames of other VLANs
/// filtered, frames merged by the NIC.
pub(super) const OFF: &[&str] = &[
    "rx-vlan-hw-parse",
    "rx-vlan-stag-hw-parse",
    "rx-vlan-filter",
    "rx-vlan-stag-filter",
    "rx-lro",
    "rx-gro-hw",
];

/// Offloads of the kernel that act before a program in skb mode.
pub(super) const OFF_IN_SKB_MODE: &[&str] = &["rx-gro", "rx-gro-list", "rx-udp-gro-forwarding"];

/// Whether weir ever switches this offload off.
pub(super) fn is_switched_off(name: &str) -> bool {
    OFF.contains(&name) || OFF_IN_SKB_MODE.contains(&name)
}
