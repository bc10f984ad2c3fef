//! Offloads of a device that are switched off while the switch has it.

/// Offloads that change or keep back what XDP should see: tags taken out of frames, frames of
/// foreign VLANs, frames put together by the NIC.
pub(super) const OFF: &[&str] = &[
    "rx-vlan-hw-parse",
    "rx-vlan-stag-hw-parse",
    "rx-vlan-filter",
    "rx-vlan-stag-filter",
    "rx-lro",
    "rx-gro-hw",
];

/// What the kernel itself does before a program in skb mode sees a frame.
pub(super) const OFF_IN_SKB_MODE: &[&str] = &["rx-gro", "rx-gro-list", "rx-udp-gro-forwarding"];

/// Whether that is an offload that is ever switched off here.
pub(super) fn is_switched_off(name: &str) -> bool {
    OFF.contains(&name) || OFF_IN_SKB_MODE.contains(&name)
}
