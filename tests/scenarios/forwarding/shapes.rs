//! Guests of every shape.

use super::*;

pub(super) fn shapes() -> Vec<(&'static str, Options)> {
    let o = options;
    vec![
        ("plain", o()),
        (
            "legacy header",
            Options {
                version_1: false,
                mergeable: false,
                rx_shape: vec![9100],
                ..o()
            },
        ),
        (
            "legacy mergeable",
            Options {
                version_1: false,
                ..o()
            },
        ),
        (
            "one large buffer",
            Options {
                mergeable: false,
                rx_shape: vec![9100],
                ..o()
            },
        ),
        (
            "chain of receive buffers",
            Options {
                mergeable: false,
                rx_shape: vec![12, 500, 1, 700, 8000],
                ..o()
            },
        ),
        (
            "receive header apart, legacy",
            Options {
                version_1: false,
                mergeable: false,
                rx_shape: vec![10, 9100],
                ..o()
            },
        ),
        (
            "tiny mergeable buffers",
            Options {
                rx_shape: vec![100],
                ..o()
            },
        ),
        (
            "mergeable chains",
            Options {
                rx_ring: 512,
                rx_shape: vec![7, 60, 33],
                ..o()
            },
        ),
        (
            "header apart",
            Options {
                tx_header_apart: true,
                ..o()
            },
        ),
        ("in parts", Options { tx_parts: 5, ..o() }),
        (
            "in parts, header apart",
            Options {
                tx_header_apart: true,
                tx_parts: 7,
                ..o()
            },
        ),
        (
            "indirect",
            Options {
                indirect: Indirect::Always,
                tx_header_apart: true,
                tx_parts: 3,
                ..o()
            },
        ),
        (
            "indirect now and then",
            Options {
                indirect: Indirect::Alternate,
                rx_shape: vec![12, 2000],
                ..o()
            },
        ),
        (
            "event index",
            Options {
                event_idx: true,
                ..o()
            },
        ),
        ("last in, first out", Options { fifo: false, ..o() }),
        (
            "line offset of a Linux guest",
            Options {
                line_offset: 0,
                ..o()
            },
        ),
        ("regions with edges", {
            let mut options = Options { tx_parts: 2, ..o() };
            options.layout.region_bytes = Some(1 << 16);
            options
        }),
        ("regions with holes", {
            let mut options = o();
            (options.layout.region_bytes, options.layout.hole_bytes) = (Some(1 << 16), 1 << 20);
            options
        }),
        (
            "small rings",
            Options {
                rx_ring: 16,
                tx_ring: 8,
                ..o()
            },
        ),
        (
            "large rings",
            Options {
                rx_ring: 4096,
                tx_ring: 1024,
                ..o()
            },
        ),
    ]
}
