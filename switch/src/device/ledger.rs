//! Checks that queues which the cores return account for all of their frames.

use pmd::control::PortDown;
use pmd::ring::xsk::halves::Ledger;

/// A sentence for each queue whose frames don't add up.
pub(crate) fn imbalances(down: &PortDown) -> Vec<String> {
    let rxqs = down
        .rxqs
        .iter()
        .filter_map(|queue| imbalance("receive", queue.index(), &queue.ledger()?));
    let txqs = down
        .txqs
        .iter()
        .filter_map(|queue| imbalance("transmit", queue.index(), &queue.ledger()?));
    rxqs.chain(txqs).collect()
}

fn imbalance(what: &str, queue: u16, ledger: &Ledger) -> Option<String> {
    let Ledger {
        n_frames,
        n_kernel,
        n_burst,
        n_free,
        n_strays,
    } = ledger;
    (!ledger.is_balanced()).then(|| {
        format!(
            "{what} frames of queue {queue} don't add up: of {n_frames}, {n_kernel} are in the \
            kernel, {n_burst} in a burst, {n_free} free; {n_strays} descriptors were of frames \
            that the kernel did not have"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Ledger = Ledger {
        n_frames: 128,
        n_kernel: 100,
        n_burst: 3,
        n_free: 25,
        n_strays: 0,
    };

    #[test]
    fn queue_with_all_its_frames_is_no_news() {
        assert_eq!(imbalance("transmit", 0, &WHOLE), None);
    }

    #[test]
    fn frame_that_is_missing_or_came_twice_is_said_with_the_figures() {
        let missing = imbalance(
            "receive",
            3,
            &Ledger {
                n_free: 24,
                ..WHOLE
            },
        )
        .unwrap();
        assert_eq!(
            missing,
            "receive frames of queue 3 don't add up: of 128, 100 are in the kernel, 3 in a burst, \
            24 free; 0 descriptors were of frames that the kernel did not have"
        );
        let stray = imbalance(
            "transmit",
            0,
            &Ledger {
                n_strays: 2,
                ..WHOLE
            },
        )
        .unwrap();
        assert!(
            stray.contains("transmit frames of queue 0") && stray.contains("2 descriptors"),
            "{stray}"
        );
    }
}
