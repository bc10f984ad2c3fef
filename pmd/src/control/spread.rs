//! Which core should poll which receive queue.

/// A core for each of `queues`, of which the core is known that it is on, and the `tx_index`: one
/// of `cores` (not empty), so that none has more than one queue more than another.
///
/// Where that leaves a choice, queues that share a transmit queue of devices share a core, so that
/// cores rarely meet there; then, queues stay where they are.
pub(super) fn spread(queues: &[(usize, u16)], cores: &[usize]) -> Vec<usize> {
    if cores.is_empty() {
        return queues.iter().map(|&(core, _)| core).collect();
    }
    let each = queues.len() / cores.len();
    let mut n_with_more = queues.len() % cores.len();
    let mut loads = vec![0; cores.len()];
    let mut chosen = vec![None; queues.len()];
    let now_at = |core: usize| cores.iter().position(|&other| other == core);
    let by_tx = |tx_index: u16| usize::from(tx_index) % cores.len();
    let rules: [&dyn Fn(usize, u16) -> Option<usize>; 3] = [
        &|core, tx| now_at(core).filter(|&nth| nth == by_tx(tx)),
        &|_, tx| Some(by_tx(tx)),
        &|core, _| now_at(core),
    ];
    let mut try_place = |nth: usize| {
        let has_room = loads[nth] < each || loads[nth] == each && n_with_more > 0;
        if has_room {
            n_with_more -= usize::from(loads[nth] == each);
            loads[nth] += 1;
        }
        has_room
    };
    for rule in rules {
        for (&(core, tx), place) in queues.iter().zip(&mut chosen) {
            if place.is_none() {
                *place = rule(core, tx).filter(|&nth| try_place(nth));
            }
        }
    }
    for place in chosen.iter_mut().filter(|place| place.is_none()) {
        *place = (0..cores.len()).find(|&nth| try_place(nth));
    }
    chosen
        .into_iter()
        .map(|nth| cores[nth.unwrap_or(0)])
        .collect()
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    #[test]
    fn cores_get_as_many_queues_each_and_those_alone_with_their_transmit_queue_stay() {
        let queues: Vec<_> = (0..8).map(|n| (0, n)).collect();
        assert_eq!(spread(&queues, &[0, 3]), [0, 3, 0, 3, 0, 3, 0, 3]);
        let back: Vec<_> = (0..8).map(|n| (usize::from(n % 2) * 3, n)).collect();
        assert_eq!(spread(&back, &[0, 3]), [0, 3, 0, 3, 0, 3, 0, 3]);
        assert_eq!(spread(&back, &[3]), [3; 8]);
    }

    #[test]
    fn numbers_are_even_whatever_was_before() {
        for n_cores in 1..6 {
            let cores: Vec<usize> = (0..n_cores).map(|n| 2 * n).collect();
            for seed in 0..500u64 {
                let dice = |n: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> n) as usize;
                let queues: Vec<_> = (0..dice(7) % 40)
                    .map(|n| {
                        (
                            dice(n as u64 % 50) % 9,
                            (dice(3 + n as u64 % 50) % 16) as u16,
                        )
                    })
                    .collect();
                let chosen = spread(&queues, &cores);
                let load = |core| chosen.iter().filter(|&&other| other == core).count();
                let loads: Vec<_> = cores.iter().map(|&core| load(core)).collect();
                assert_eq!(loads.iter().sum::<usize>(), queues.len());
                let (least, most) = (loads.iter().min(), loads.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{loads:?}");
                let again: Vec<_> = queues.iter().zip(&chosen).map(|(q, &c)| (c, q.1)).collect();
                assert_eq!(spread(&again, &cores), chosen, "at rest nothing moves");
            }
        }
    }
}
