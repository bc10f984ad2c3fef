//! Whether queues that come back from the cores bring all their frames along. They do; if not,
//! somebody should know.

use pmd::fleet::PortDown;
use pmd::ring::frames::Ledger;

/// What is to be said of queues whose frames don't add up, a sentence each.
pub(crate) fn imbalances(down: &PortDown) -> Vec<String> {
    let rxqs = down
        .rxqs
        .iter()
        .filter_map(|queue| imbalance("received", queue.index(), &queue.ledger()?));
    let txqs = down
        .txqs
        .iter()
        .filter_map(|queue| imbalance("sent", queue.index(), &queue.ledger()?));
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
            "frames of queue {queue} for what is {what} don't add up: of {n_frames} the kernel has \
            {n_kernel}, \
             {n_burst} are in a burst, {n_free} are free; {n_strays} descriptors were of frames \
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
        assert_eq!(imbalance("sent", 0, &WHOLE), None);
    }

    #[test]
    fn frame_that_is_missing_or_came_twice_is_said_with_the_figures() {
        let missing = imbalance(
            "received",
            3,
            &Ledger {
                n_free: 24,
                ..WHOLE
            },
        )
        .unwrap();
        assert_eq!(
            missing,
            "frames of queue 3 for what is received don't add up: of 128 the kernel has 100, 3 are \
            in a burst, 24 are free; \
             0 descriptors were of frames that the kernel did not have"
        );
        let stray = imbalance(
            "sent",
            0,
            &Ledger {
                n_strays: 2,
                ..WHOLE
            },
        )
        .unwrap();
        assert!(
            stray.contains("queue 0 for what is sent") && stray.contains("2 descriptors"),
            "{stray}"
        );
    }
}
