//! Frames that mislead parsers: all as long as they say to Ethernet, and wrong above it.

/// Variations of a good frame, which lends its two addresses.
pub fn odd_frames(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let frame = |kind: u16, body: Vec<u8>| {
        let mut frame = [&good[..12], &kind.to_be_bytes(), &body].concat();
        frame.resize(frame.len().max(60), 0);
        frame
    };
    let vlans: Vec<u8> = (0..20u8).flat_map(|i| [0, i + 1, 0x81, 0]).collect();
    let extensions = [ipv6(0, 56 * 8), [0, 0, 1, 4, 0, 0, 0, 0].repeat(56)].concat();
    vec![
        ("twenty VLAN tags", frame(0x8100, vlans)),
        ("VLAN tag cut short", [&good[..12], &[0x81, 0, 0]].concat()),
        ("IPv4 header length 4", frame(0x0800, ipv4(0x44, 46, 0, 17))),
        (
            "IPv4 header length 15, frame too short",
            frame(0x0800, ipv4(0x4f, 46, 0, 6)),
        ),
        (
            "IPv4 total length over the frame",
            frame(0x0800, ipv4(0x45, 1500, 0, 17)),
        ),
        (
            "IPv4 total length under the header",
            frame(0x0800, ipv4(0x45, 3, 0, 17)),
        ),
        ("IPv4 version 7", frame(0x0800, ipv4(0x75, 46, 0, 17))),
        (
            "fragment at the largest offset",
            frame(0x0800, ipv4(0x45, 46, 0x1fff, 17)),
        ),
        (
            "first fragment without a port",
            frame(0x0800, ipv4(0x45, 20, 0x2000, 6)),
        ),
        (
            "TCP header length 0",
            frame(0x0800, [ipv4(0x45, 46, 0, 6), vec![0; 20]].concat()),
        ),
        ("IPv4 protocol 0", frame(0x0800, ipv4(0x45, 46, 0, 0))),
        ("IPv6 extensions without end", frame(0x86dd, extensions)),
        (
            "IPv6 payload over the frame",
            frame(0x86dd, ipv6(17, 65535)),
        ),
        (
            "IPv6 cut in its addresses",
            frame(0x86dd, ipv6(17, 8)[..30].to_vec()),
        ),
        (
            "ARP cut short",
            [&good[..12], &[8, 6, 0, 1, 8, 0, 6]].concat(),
        ),
        (
            "ARP with long addresses",
            frame(0x0806, vec![0, 1, 8, 0, 255, 255, 0, 1]),
        ),
        ("LLC length over the frame", frame(0x05dc, vec![0xaa; 20])),
        ("EtherType 0", frame(0, vec![0; 46])),
    ]
}

/// The frame with another source.
pub(super) fn from_mac(good: &[u8], source: [u8; 6]) -> Vec<u8> {
    [&good[..6], &source, &good[12..]].concat()
}

fn ipv4(first: u8, total: u16, fragment: u16, proto: u8) -> Vec<u8> {
    let mut header = vec![first, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 0]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    header
}

fn ipv6(next: u8, payload: u16) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(payload.to_be_bytes());
    header.extend([next, 64]);
    header.extend([0xfd; 32]);
    header
}
