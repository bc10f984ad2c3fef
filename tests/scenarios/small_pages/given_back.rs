//! Pages that are being given back while the core wants them, so that it waits.

use super::*;

/// Bytes that are given back at once, which takes the kernel some tens of milliseconds.
const GIVEN_BACK: u64 = 256 << 20;
/// Of a neighbour, in which it sees nothing.
const STALL: Duration = Duration::from_millis(8);

impl Buffers {
    /// Many more pages come behind them, and all go at once.
    pub(crate) fn come_and_go(&self) {
        self.fill_up_to(GIVEN_BACK);
        self.take_away_up_to(GIVEN_BACK);
    }
}

/// Held by who gives so many back: two at once would take the kernel twice as long, and more.
pub(crate) fn giving_back() -> MutexGuard<'static, ()> {
    static GIVING_BACK: Mutex<()> = Mutex::new(());
    GIVING_BACK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Five seconds of turns while `give_back` is done again and again beside them; `before_turn` is
/// told the turn's number. Gives when the core gave its CPU up for longer than [`STALL`], and for
/// how long; where the CPU was taken away from it is none of them.
fn stalls_while(
    give_back: impl Fn() + Sync,
    four: &mut Four,
    mut before_turn: impl FnMut(&mut Rig, u64),
) -> Vec<(Duration, Duration)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                give_back();
            }
        });
        let (mut stalls, begin) = (Vec::new(), Instant::now());
        for turn in 1.. {
            if begin.elapsed() >= Duration::from_secs(5) {
                break;
            }
            before_turn(&mut four.rig, turn);
            let (then, waits) = (Instant::now(), n_waits());
            four.step_with_neighbours(turn);
            if then.elapsed() > STALL && n_waits() != waits {
                stalls.push((begin.elapsed(), then.elapsed()));
            }
        }
        stop.store(true, Ordering::Relaxed);
        stalls
    })
}

#[test]
fn receiver_whose_pages_are_being_given_back_makes_the_core_wait_ever_more_seldom() {
    let _alone = giving_back();
    let mut four = Four::new(256);
    let pages = buffers_of(&four.rig.guests[1], 4096);
    let (mut n_gone, mut gone_at, mut stood) = (0, Instant::now(), Duration::ZERO);
    let stalls = stalls_while(
        || pages.come_and_go(),
        &mut four,
        |rig, _| {
            // However long the receiver is paused, its sender's ring goes on as if it were stalled.
            let n = rig.counters(0).rx_frames;
            gone_at = if n == n_gone { gone_at } else { Instant::now() };
            (n_gone, stood) = (n, stood.max(gone_at.elapsed()));
            while rig.guests[1].recv(0).is_some() {}
            rig.guests[1].post_rx(0);
            rig.guests[0].reclaim_tx(0);
            (0..32).for_each(|_| _ = rig.guests[0].send(0, &frame(mac(1), mac(0), 7, 9000)));
        },
    );
    assert!(stood < Duration::from_millis(1300), "{stood:?}");
    assert!(!stalls.is_empty(), "NOT SHOWN: nothing was waited for");
    // Each pause is twice the one before.
    assert!(stalls.len() <= 6, "{} times: {stalls:?}", stalls.len());
    let waits = [0, 1, 2, 3].map(|port| four.rig.cores.page_waits(port));
    assert!(
        waits[1] > 0 && waits[1] <= 8 && waits[0] + waits[2] + waits[3] == 0,
        "told of whom: {waits:?}"
    );
    four.rig.assert_counted();
}

/// How often this thread gave its CPU up so far.
pub(super) fn n_waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("/proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).expect("a number")
}

/// A sender V that waits for two receivers without buffers, F and X, and looks for room at X again
/// and again, or at X alone; the page of X's ring goes meanwhile. Gives how often the core waited
/// for it, and what is told of whom.
fn waits_while_looking_for_room(has_other: bool) -> (Vec<(Duration, Duration)>, Vec<u64>) {
    let mut rig = Rig::new(1, 5, networks(&[&[0, 1, 4], &[2, 3]]));
    for port in 0..5 {
        rig.plug(
            u16::from(port == 2 || port == 3),
            ANY,
            Options {
                rx_ring: if port == 4 { 8 } else { 256 },
                ..shape(256)
            },
        );
    }
    rig.introduce([0, 1, 4]);
    // X comes again, with a ring to receive into that nobody ever puts a buffer in.
    let pages = buffers_of(&rig.guests[1], 4096);
    let memory = Arc::new(memory_of(&rig.guests[1]));
    let mut up = port_in(&memory, &rig.guests[1], ingress(1, 0, ANY));
    let region = rig.guests[1].memory().regions()[0].spec();
    let at = region.uva + pages.offset - region.file_offset;
    let (desc, avail, used) = (at, at + 4096, at + 8192);
    let options = rig.guests[1].options();
    let features = Features::from_bits(options.features());
    let spec = QueueSpec {
        desc,
        avail,
        used,
        ..queue_of(&rig.guests[1], 0)
    };
    pages.take_away();
    up.txqs = vec![TxQueue::vhost(memory.clone(), &spec, features).expect("a ring")];
    rig.down(1);
    rig.cores.up(up);
    rig.step();
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.drain([0, 4]);
    let mut four = Four::of_pair(rig);
    let mut taken_at = Instant::now();
    let stalls = stalls_while(
        || pages.come_and_go(),
        &mut four,
        |rig, turn| {
            // What waits stays what it is, so that it is known: for F first, for longer than this
            // takes.
            if turn == 1 || !has_other && rig.guests[0].reclaim_tx(0) > 0 {
                for n in 0..32 {
                    let to = if has_other && n < 31 { 4 } else { 1 };
                    rig.guests[0].send(0, &frame(mac(to), mac(0), 7, 60));
                }
            }
            // F is slow, not stalled.
            if taken_at.elapsed() > Duration::from_millis(400) {
                rig.guests[4].recv(0);
                rig.guests[4].post_rx(0);
                taken_at = Instant::now();
            }
        },
    );
    four.rig.assert_counted();
    (
        stalls,
        (0..5).map(|port| four.rig.cores.page_waits(port)).collect(),
    )
}

#[test]
fn receiver_whose_ring_goes_while_senders_look_for_room_is_told_of_and_makes_the_core_wait_ever_more_seldom()
 {
    let _alone = giving_back();
    for has_other in [true, false] {
        let (stalls, waits) = waits_while_looking_for_room(has_other);
        println!("{} waits: {stalls:?}; told of {waits:?}", stalls.len());
        assert!(!stalls.is_empty(), "NOT SHOWN: nothing was waited for");
        // The kernel's locks are other tests' too, and a wait for those is told of nobody.
        let n_told = usize::try_from(waits[1]).unwrap();
        assert!((1..=8).contains(&n_told), "told of {waits:?}");
        assert!(stalls.len() <= n_told + 5, "{waits:?}: {stalls:?}");
        assert!(
            waits[0] + waits[2] + waits[3] + waits[4] == 0,
            "told of others: {waits:?}"
        );
    }
}

/// V's only receiver X has no buffers but one now and then, so V's queue is not looked at but for
/// whether there is more in it; the page of V's ring goes again and again.
#[test]
fn sender_whose_ring_goes_while_it_waits_for_room_is_told_of_and_makes_the_core_wait_ever_more_seldom()
 {
    let _alone = giving_back();
    let mut four = Four::new(8);
    let pages = buffers_of(&four.rig.guests[0], 4096);
    let region = four.rig.guests[0].memory().regions()[0].spec();
    let first = pages.offset - region.file_offset;
    let features = Features::from_bits(four.rig.guests[0].options().features());
    let memory = Arc::new(memory_of(&four.rig.guests[0]));
    let spec = QueueSpec {
        desc: region.uva + first,
        avail: region.uva + first + 4096,
        used: region.uva + first + 8192,
        ..queue_of(&four.rig.guests[0], 1)
    };
    // 32 frames, all from one place.
    let payload = region.gpa + first + 16 * 4096;
    let fill = || {
        let mut bytes = vec![0; 12];
        bytes.extend(frame(mac(1), mac(0), 7, 60));
        pages.write(16 * 4096, &bytes);
        for n in 0..32_u16 {
            let mut desc = [0; 16];
            desc[..8].copy_from_slice(&payload.to_le_bytes());
            desc[8..12].copy_from_slice(&72_u32.to_le_bytes());
            pages.write(16 * u64::from(n), &desc);
            pages.write(4096 + 4 + 2 * u64::from(n), &n.to_le_bytes());
        }
        pages.write(4096 + 2, &32_u16.to_le_bytes());
    };
    pages.take_away();
    fill();
    // A ring that went is one that breaks the rules, once some of it was taken.
    let comes_again = |rig: &mut Rig| {
        rig.down(0);
        let mut up = port_in(&memory, &rig.guests[0], ingress(0, 0, ANY));
        up.rxqs = vec![RxQueue::vhost(0, memory.clone(), &spec, features).expect("a ring")];
        rig.cores.up(up);
    };
    comes_again(&mut four.rig);
    let mut taken_at = Instant::now();
    let stalls = stalls_while(
        || {
            pages.fill_up_to(GIVEN_BACK);
            fill();
            pages.take_away_up_to(GIVEN_BACK);
        },
        &mut four,
        |rig, turn| {
            // X is slow, not stalled.
            if taken_at.elapsed() > Duration::from_millis(200) {
                if turn % 3 == 0 {
                    rig.guests[1].recv(0);
                    rig.guests[1].post_rx(0);
                }
                comes_again(rig);
                taken_at = Instant::now();
            }
        },
    );
    let waits = [0, 1, 2, 3].map(|port| four.rig.cores.page_waits(port));
    println!("{} waits: {stalls:?}; told of {waits:?}", stalls.len());
    assert!(!stalls.is_empty(), "NOT SHOWN: nothing was waited for");
    assert!(
        (1..=8).contains(&waits[0]) && waits[1] + waits[2] + waits[3] == 0,
        "told of whom: {waits:?}"
    );
    assert!(stalls.len() <= 8, "{} times: {stalls:?}", stalls.len());
}
