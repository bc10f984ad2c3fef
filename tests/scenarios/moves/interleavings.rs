//! All interleavings of small cases: two cores, and control threads whose steps come in any order
//! between their turns.

use super::*;

/// A step of a control thread.
type Step = fn(&mut Case);

/// What is stepped: a switch of two cores with a queue on each.
struct Case {
    rig: Rig,
    /// Ports 0 and 1; frames of either can wait.
    ends: [MemPort; 2],
    n_sent: [u64; 2],
    n_got: [u64; 2],
    is_down: [bool; 2],
    removed: Option<usize>,
}

impl Case {
    fn new() -> Self {
        let mut rig = Rig::with_room(2, 2, networks(&[&[0, 1]]), 64);
        let ends = [0, 1].map(|_| MemPort::new(usize::MAX, true));
        for (port, end) in (0..).zip(&ends) {
            rig.plug_mem(port, Some(0), end);
            end.send(&frame(ALL, mac(port), 0, 60));
        }
        rig.settle();
        ends.iter().for_each(|end| while end.receive().is_some() {});
        Self {
            rig,
            ends,
            n_sent: [0; 2],
            n_got: [0; 2],
            is_down: [false; 2],
            removed: None,
        }
    }

    fn send(&mut self) {
        for port in 0..2 {
            for _ in 0..40 {
                let (to, from) = (mac(1 - port as u16), mac(port as u16));
                self.ends[port].send(&frame(to, from, self.n_sent[port], 60));
                self.n_sent[port] += 1;
            }
        }
    }

    /// What has come is in order, and none of it twice. `is_whole`: and nothing is missing.
    fn check(&mut self, is_whole: bool) {
        for port in 0..2 {
            while let Some(bytes) = self.ends[1 - port].receive() {
                let id = id_of(&bytes);
                let next = self.n_got[port];
                assert!(
                    if is_whole { id == next } else { id >= next },
                    "{id}, not {next}"
                );
                self.n_got[port] = id + 1;
            }
        }
    }

    fn down(&mut self, port: PortId) {
        self.rig.cores.start_down(port);
        self.is_down[usize::from(port)] = true;
    }

    fn try_up(&mut self, port: PortId) {
        if let Some(down) = self.rig.cores.try_finish_down(port) {
            assert_eq!(
                (down.rxqs.len(), down.txqs.len()),
                (1, 1),
                "all of it is back"
            );
            self.is_down[usize::from(port)] = false;
            let up = pmd::control::PortUp {
                ingress: rig::ingress(port, 0, ANY),
                rxqs: down.rxqs,
                txqs: down.txqs,
            };
            self.rig.cores.up(up);
        }
    }

    fn remove(&mut self, core: usize) {
        if self.removed.is_none() && self.rig.cores.start_remove_core(core).is_ok() {
            self.removed = Some(core);
        }
    }

    /// Everything under way ends, and the switch works.
    fn finish(&mut self, loses_nothing: bool) {
        for _ in 0..300 {
            self.rig.step();
            self.rig.cores.try_finish_moves();
            for port in 0..2 {
                if self.is_down[usize::from(port)] {
                    self.try_up(port);
                }
            }
            if let Some(core) = self
                .removed
                .filter(|&core| self.rig.cores.try_finish_remove_core(core))
            {
                self.removed = None;
                self.rig.forget_ended();
                assert!(!self.rig.turning().contains(&core));
            }
        }
        assert!(self.rig.cores.try_finish_moves(), "a move never ends");
        assert_eq!(
            (self.removed, self.is_down),
            (None, [false; 2]),
            "it never ends"
        );
        let queues = self.rig.cores.queues();
        let cores = self.rig.turning();
        assert_eq!(queues.len(), 2);
        assert!(queues.iter().all(|queue| cores.contains(&queue.core)));
        let n_polled: u64 = self
            .rig
            .cores
            .core_counters()
            .iter()
            .map(|core| core.n_rxqs)
            .sum();
        assert_eq!(n_polled, 2, "each queue is polled by one core");
        self.check(loses_nothing);
        self.send();
        self.rig.settle();
        self.check(loses_nothing);
        assert_eq!(self.n_got, self.n_sent, "the last has come");
        self.rig.assert_counted();
    }
}

/// Runs every interleaving of `n_others` turns of cores, and steps of control that take what is
/// under way on, with the steps of both threads, each in its order.
fn all(threads: [&[Step]; 2], n_others: usize, loses_nothing: bool) -> usize {
    let mut path = Vec::new();
    let mut n = 0;
    loop {
        let mut case = Case::new();
        case.send();
        let (mut at, mut n_left, mut depth) = ([0, 0], n_others, 0);
        loop {
            let is_open = |choice: usize| match choice {
                0 | 1 => at[choice] < threads[choice].len(),
                _ => n_left > 0,
            };
            let open: Vec<usize> = (0..5).filter(|&choice| is_open(choice)).collect();
            if open.is_empty() {
                break;
            }
            if depth == path.len() {
                path.push((0, open.len()));
            }
            let choice = open[path[depth].0];
            depth += 1;
            match choice {
                0 | 1 => {
                    threads[choice][at[choice]](&mut case);
                    at[choice] += 1;
                }
                2 | 3 => {
                    n_left -= 1;
                    case.rig.turn(choice - 2);
                }
                _ => {
                    n_left -= 1;
                    case.rig.cores.try_finish_moves();
                }
            }
            case.check(loses_nothing);
        }
        case.finish(loses_nothing);
        n += 1;
        // The next path: the last choice that has another.
        while path.last().is_some_and(|&(choice, n)| choice + 1 == n) {
            path.pop();
        }
        match path.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return n,
        }
    }
}

const N_OTHERS: usize = if cfg!(miri) { 2 } else { 4 };

#[test]
fn queue_moves_there_and_another_back() {
    let there: &[Step] = &[|case| _ = case.rig.cores.start_move(0, 1, 1)];
    let back: &[Step] = &[
        |case| _ = case.rig.cores.start_move(1, 1, 0),
        |case| _ = case.rig.cores.start_move(0, 1, 0),
    ];
    assert!(all([there, back], N_OTHERS, true) > 10);
}

#[test]
fn queue_moves_while_its_port_goes_down_and_comes_up() {
    let moves: &[Step] = &[|case| _ = case.rig.cores.start_move(0, 1, 1)];
    let down: &[Step] = &[|case| case.down(0), |case| case.try_up(0)];
    all([moves, down], N_OTHERS, false);
}

#[test]
fn queue_moves_while_its_receiver_goes_down_and_comes_up() {
    let moves: &[Step] = &[|case| _ = case.rig.cores.start_move(0, 1, 1)];
    let down: &[Step] = &[|case| case.down(1), |case| case.try_up(1)];
    all([moves, down], N_OTHERS, false);
}

#[test]
fn queue_moves_to_a_core_that_goes() {
    let moves: &[Step] = &[
        |case| _ = case.rig.cores.start_move(0, 1, 1),
        |case| _ = case.rig.cores.start_move(1, 1, 0),
    ];
    let remove: &[Step] = &[|case| case.remove(1)];
    all([moves, remove], N_OTHERS, true);
}

#[test]
fn two_cores_are_removed_at_once_and_one_stays() {
    let one: &[Step] = &[|case| case.remove(0)];
    let other: &[Step] = &[|case| {
        let is_last = case.rig.cores.start_remove_core(1).is_err();
        assert_eq!(is_last, case.removed.is_some());
        if !is_last {
            case.removed = Some(1);
        }
    }];
    all([one, other], N_OTHERS, true);
}

#[test]
fn port_goes_down_while_its_core_goes() {
    let remove: &[Step] = &[
        |case| case.remove(0),
        |case| {
            if let Some(core) = case.removed {
                case.rig.cores.try_finish_remove_core(core);
            }
        },
    ];
    let down: &[Step] = &[|case| case.down(0), |case| case.try_up(0)];
    all([remove, down], N_OTHERS - 1, false);
}

#[test]
fn core_comes_while_a_port_goes_down_and_takes_a_queue_at_once() {
    let add: &[Step] = &[
        |case| _ = case.rig.add_core(),
        |case| _ = case.rig.cores.start_move(1, 1, 2),
    ];
    let down: &[Step] = &[|case| case.down(0), |case| case.try_up(0)];
    all([add, down], N_OTHERS - 1, false);
}
