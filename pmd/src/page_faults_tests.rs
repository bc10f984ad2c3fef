use super::*;

fn at_one_cycle_a_nanosecond() -> PageFaults {
    PageFaults {
        pace: 1024,
        ..PageFaults::new(3)
    }
}

#[test]
fn what_is_paid_is_its_share_of_the_time_after_what_was_saved_up() {
    let mut faults = at_one_cycle_a_nanosecond();
    let (mut now, mut spent) = (1_000_000_000, 0);
    let begin = now;
    while now < begin + 10_000_000_000 {
        faults.pay(now, 50_000);
        spent += 50_000;
        now = (now + 50_000).max(faults.paid_until.saturating_sub(SAVED));
    }
    let most = (now - begin + SAVED) / SHARE + 100_000;
    assert!((most * 9 / 10..=most).contains(&spent), "{spent} of {most}");
}

/// A core that looks each millisecond, at one cycle a nanosecond.
struct Looks {
    faults: PageFaults,
    now: Nanos,
    usage: Usage,
}

impl Looks {
    fn new() -> Self {
        let (faults, usage) = (at_one_cycle_a_nanosecond(), Usage::default());
        let mut looks = Self {
            faults,
            now: 1_000_000_000,
            usage,
        };
        looks.after(1_000_000, 0, 0);
        looks
    }

    /// A look after so long, with so many more faults and waits. Whether it measures then.
    fn after(&mut self, time: Nanos, n_faults: u64, n_waits: u64) -> bool {
        self.now += time;
        self.usage.n_faults += n_faults;
        self.usage.n_waits += n_waits;
        self.faults.weigh(self.now, self.usage, self.now);
        self.faults.is_measuring
    }
}

#[test]
fn core_measures_after_a_wait_however_short_for_a_hundred_times_as_long() {
    let mut looks = Looks::new();
    looks.faults.sampled_at = looks.now;
    assert!(looks.after(1_400_000, 1, 1), "a wait of 400 us and a look");
    assert!(looks.after(100_000_000, 0, 0));
    assert!(!looks.after(50_000_000, 0, 0));
    assert!(looks.after(35_000_000, 1, 1), "a long one");
    assert!(looks.after(3_000_000_000, 0, 0));
    assert!(!looks.after(1_000_000_000, 0, 0));
    // What is known of, or was no page, is none.
    looks.faults.sampled_at = looks.now;
    looks.faults.n_known_waits = 2;
    assert!(!looks.after(1_000_000, 1, 2));
    assert!(!looks.after(1_000_000, 0, 1));
}

#[test]
fn core_measures_what_a_port_does_when_its_pause_for_a_wait_ends() {
    let mut looks = Looks::new();
    let wait = 400_000;
    let until = looks.faults.waited(looks.now, wait, 1, 1).unwrap();
    assert_eq!(until - looks.now, 14 * wait);
    assert!(
        looks.faults.is_watching,
        "so that nobody touches its memory"
    );
    assert_eq!(looks.faults.take_waited_for(), None, "too short to be told");
    let times: Vec<_> = (0..100)
        .map(|_| (looks.after(1_000_000, 0, 0), looks.now))
        .filter_map(|(measures, now)| measures.then_some(now))
        .collect();
    let first = times.first().copied().unwrap();
    assert!((until..until + 1_000_000).contains(&first));
    assert_eq!(times.len(), 40, "a hundred times as long, in milliseconds");
    // And it is paused at once if it does the same again.
    looks.faults.waited(looks.now, 1_000_000, 1, 1).unwrap();
    assert_eq!(looks.faults.take_waited_for(), Some(1));
}

#[test]
fn waits_do_not_make_faults_dear() {
    let mut faults = at_one_cycle_a_nanosecond();
    for _ in 0..100 {
        let took = 1_000_000_u64.min(DEARER * faults.cost);
        faults.costs(took, 1);
    }
    assert_eq!(faults.cost, COST_MAX);
}

#[test]
fn core_that_does_not_begin_never_looks() {
    assert_eq!(
        (PageFaults::new(3).due, PageFaults::new(3).is_watching),
        (Nanos::MAX, false)
    );
}

#[test]
fn port_that_makes_the_core_wait_pauses_for_longer_each_time_until_it_is_forgiven() {
    let mut port = PortFaults::default();
    let second = 1_000_000_000;
    let now = 100 * second;
    assert_eq!(
        [(); 3].map(|()| port.waited(now, second)),
        [13, 26, 52].map(|n| n * second)
    );
    assert_eq!(
        (0..20).map(|_| port.waited(now, second)).max(),
        Some(WAIT_PAUSE_MAX)
    );
    assert_eq!(port.waited(now + FORGIVEN + 1, second), 13 * second);
    // Short ones, of a guest whose memory comes from a swap device, are a part of the time and no
    // more.
    let mut port = PortFaults::default();
    assert!((0..1000).all(|_| port.waited(now, 1_000_000) == 13_000_000));
}

#[test]
fn port_has_at_once_what_a_guest_that_starts_needs_and_its_account_is_its_own() {
    let mut faults = at_one_cycle_a_nanosecond();
    faults.n_queues = 130;
    let now = 1_000_000_000;
    // Others have used up what there is for all.
    while faults.told(now, 1, 100_000, 0).is_none() {}
    assert!((0..29).all(|_| faults.told(now, 1, 100_000, 1).is_none()));
    let until = (0..3).find_map(|_| faults.told(now, 1, 100_000, 1));
    assert!(until.is_some() && faults.paused_until(now, 1) == until);
    assert_eq!(faults.paused_until(now, 2), None);
    assert!(
        faults.was_paused(until.unwrap() + 5, 1, 10)
            && !faults.was_paused(until.unwrap() + 10, 1, 10)
    );
    assert!(!faults.was_paused(5, 2, 10));
}
