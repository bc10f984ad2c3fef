//! How many queues a device has, may have, and is to have.

use config::DEVICE_QUEUES_MAX;
use pmd::sys::link::{Channels, Ethtool};

use super::netlink::link::Device;

/// Checks that a device can have so many queues, and changes nothing.
///
/// # Errors
/// A sentence.
pub(crate) fn check(device: &Device, queues: Option<u16>) -> Result<(), String> {
    let Ok(now) = Ethtool::new().and_then(|ethtool| ethtool.channels(&device.name)) else {
        return Ok(());
    };
    wanted(&device.name, &now, queues).map(|_| ())
}

/// The channels to set on `device`, which has `now`.
///
/// # Errors
/// A sentence: it can't have so many.
pub(crate) fn wanted(
    device: &str,
    now: &Channels,
    queues: Option<u16>,
) -> Result<Channels, String> {
    // As many as there are, but no more than can be served: frames of an unserved queue would go to
    // the host.
    let n = queues.map_or(count(now).min(u32::from(DEVICE_QUEUES_MAX)), u32::from);
    if n == count(now) {
        return Ok(*now);
    }
    let max = if now.combined_max > 0 {
        now.combined_max
    } else {
        now.rx_max.min(now.tx_max)
    };
    if n > max {
        let plural = if max == 1 { "queue" } else { "queues" };
        return Err(format!(
            "{device} has {max} {plural} at most, not {n}: write `queues: {max}` or less, or \
            `queues: auto`"
        ));
    }
    Ok(match now.combined_max {
        0 => Channels {
            rx: n,
            tx: n,
            ..*now
        },
        _ => Channels {
            combined: n,
            rx: 0,
            tx: 0,
            ..*now
        },
    })
}

/// Queues that can receive frames.
pub(crate) fn count(channels: &Channels) -> u32 {
    (channels.combined + channels.rx).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_left_as_they_are_unless_the_topology_says_otherwise() {
        let pairs = Channels {
            combined: 4,
            combined_max: 8,
            ..Channels::default()
        };
        assert_eq!(wanted("eth1", &pairs, None), Ok(pairs));
        assert_eq!(wanted("eth1", &pairs, Some(4)), Ok(pairs));
        assert_eq!(
            wanted("eth1", &pairs, Some(2)),
            Ok(Channels {
                combined: 2,
                ..pairs
            })
        );
        let single = Channels {
            rx: 1,
            tx: 1,
            rx_max: 2,
            tx_max: 2,
            ..Channels::default()
        };
        assert_eq!(
            wanted("veth0", &single, Some(2)),
            Ok(Channels {
                rx: 2,
                tx: 2,
                ..single
            })
        );
    }

    #[test]
    fn device_with_fewer_queues_is_refused_with_how_many_it_has() {
        let single = Channels {
            rx: 1,
            tx: 1,
            rx_max: 1,
            tx_max: 1,
            ..Channels::default()
        };
        let why = wanted("veth0", &single, Some(4)).unwrap_err();
        assert!(
            why.contains("veth0 has 1 queue at most, not 4") && why.contains("`queues: 1`"),
            "{why}"
        );
    }
}
