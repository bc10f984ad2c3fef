//! Turns, credit and order of what is made for guests.

#[cfg(not(miri))]
use std::os::fd::FromRawFd;

use super::super::account::{HOLES_SAVED, NS_A_HOLE};
use super::super::presence::Account;
use super::*;

#[test]
fn what_was_saved_goes_at_once_and_the_rest_at_a_steady_rate() {
    let (mut credit, mut now, mut n) = (Credit::default(), 1_000_000_000, 0);
    let end = now + 1_000_000;
    while now < end {
        match credit.wait(now, 1000, 8) {
            0 => {
                credit.pay(1000);
                n += 1;
            }
            wait => now += wait,
        }
    }
    assert!((1000..=1009).contains(&n), "{n}");
    assert_eq!(credit.wait(end + 1_000_000_000, 1000, 8), 0);
}

#[test]
fn guest_has_its_turn_among_many_who_ask_before_it_each_time() {
    let of_all = Mutex::default();
    let greedy: Vec<_> = (0..20).map(|_| Account::default()).collect();
    let modest = Account::default();
    let begin = 10_000_000_000;
    let ask = |account: &Account, now| account.take_turn(now, &of_all) == 0;
    // What all have saved up is gone, and what each has is not.
    while (0..20).any(|n| ask(&greedy[n], begin)) {}
    let (mut n_greedy, mut waited) = (0, None);
    for ms in 0..1000 {
        let now = begin + ms * 1_000_000;
        n_greedy += greedy.iter().filter(|account| ask(account, now)).count();
        if waited.is_none() && ask(&modest, now) {
            waited = Some(ms);
        }
    }
    assert!(
        waited.is_some_and(|ms| ms <= 220),
        "{waited:?} ms behind 20 who have one each ten milliseconds"
    );
    assert!((90..=101).contains(&n_greedy), "{n_greedy} in a second");
}

/// A mapping of `n` small pages of a file of its own, of the guest whose account this is.
#[cfg(not(miri))]
fn mapping(n: usize, account: &Arc<Account>) -> Arc<Presence> {
    // SAFETY: a plain call; the new fd is nobody else's.
    let file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"pages".as_ptr(), 0)) };
    file.set_len((n << 12) as u64).unwrap();
    // For good: its account may be looked at after the test.
    let base = std::mem::ManuallyDrop::new(sys::map_shared(&file, 0, n << 12).unwrap()).as_mut_ptr()
        as usize;
    Arc::new(Presence::new(
        file,
        0,
        base,
        n << 12,
        4096,
        false,
        account.clone(),
    ))
}

#[cfg(not(miri))]
fn has_one(presence: &Presence) -> bool {
    (0..64).any(|page| presence.has(page))
}

#[test]
#[cfg(not(miri))]
fn guest_that_wants_one_page_waits_for_one_of_each_other_guest_and_not_for_all_that_they_want() {
    let [greedy, modest] = [Arc::new(Account::default()), Arc::new(Account::default())];
    let mut of_greedy: Vec<_> = (0..8).map(|_| mapping(64, &greedy)).collect();
    let mut of_modest = vec![mapping(64, &modest)];
    for presence in of_greedy.iter().chain(&of_modest) {
        presence.is_granted(0, 64 << 12);
    }
    let mut n_passes = 0;
    while !has_one(&of_modest[0]) {
        n_passes += 1;
        // Each has a pager of its own.
        for mappings in [&mut of_greedy, &mut of_modest] {
            assert!(serve_one(mappings, &Mutex::default()).has_made);
        }
    }
    assert_eq!(n_passes, 1);
    let n_greedy: usize = of_greedy
        .iter()
        .map(|p| (0..64).filter(|&page| p.has(page)).count())
        .sum();
    assert_eq!(
        n_greedy, 1,
        "pages were made first for one that has eight mappings"
    );
}

#[test]
#[cfg(not(miri))]
fn guest_of_many_mappings_has_no_more_holes_put_back_than_one_of_a_single_mapping() {
    let account = Arc::new(Account::default());
    let mut mappings: Vec<_> = (0..8).map(|_| mapping(64, &account)).collect();
    for presence in &mappings {
        (0..4).for_each(|page| presence.grant(page));
        (0..4)
            .filter(|page| presence.may_lose(page << 12))
            .for_each(|page| presence.lose(page << 12));
    }
    assert_eq!(account.n_holes(), super::super::presence::HOLES_MAX);
    let of_all = Mutex::default();
    let begin = sys::monotonic_ns();
    let n_made = (0..64)
        .filter(|_| serve_one(&mut mappings, &of_all).has_made)
        .count() as u64;
    let most = HOLES_SAVED + 1 + (sys::monotonic_ns() - begin) / NS_A_HOLE;
    assert!(
        (1..=most).contains(&n_made),
        "{n_made} of 32, not more than {most}"
    );
}

#[test]
#[cfg(not(miri))]
fn region_that_is_taken_away_and_added_again_brings_no_new_credit_nor_room_for_holes() {
    let account = Arc::new(Account::default());
    let begin = sys::monotonic_ns();
    lock(&account.credit).paid_until = begin + NS_A_HOLE * HOLES_SAVED;
    let lose = |presence: &Presence| {
        (0..64)
            .filter(|page| presence.may_lose(page << 12))
            .map(|page| presence.lose(page << 12))
            .count()
    };
    let n_lost: usize = (0..8)
        .map(|_| {
            let presence = mapping(64, &account);
            let n = lose(&presence);
            presence.end();
            n
        })
        .sum();
    assert_eq!(n_lost, super::super::presence::HOLES_MAX);
    account.forgive(begin);
    assert_eq!(account.n_holes(), super::super::presence::HOLES_MAX);
    account.forgive(begin + 10 * NS_A_HOLE);
    assert_eq!(account.n_holes(), super::super::presence::HOLES_MAX - 10);
}

/// Reserved for a test and given back; see `tests/scenarios/paging.rs`.
#[cfg(not(miri))]
struct LargePages {
    before: u64,
}

#[cfg(not(miri))]
impl LargePages {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    fn reserve(n: u64) -> Option<Self> {
        let read = || -> Option<u64> {
            let text = std::fs::read_to_string(Self::FILE).ok()?;
            text.trim().parse().ok()
        };
        let before = read()?;
        let written = std::fs::write(Self::FILE, (before + n).to_string());
        let pages = Self { before };
        (written.is_ok() && read() >= Some(before + n)).then_some(pages)
    }
}

#[cfg(not(miri))]
impl Drop for LargePages {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, self.before.to_string());
    }
}

/// One page after another of a sparse file of large ones is taken away and put back: the kernel
/// allows a process so many mappings, and joins none of these.
#[test]
#[cfg(not(miri))]
fn large_pages_that_were_put_back_are_joined_to_one_mapping_again() {
    /// Some of the pages of a file that is mapped anew in three stretches.
    const N: usize = 20_000;
    const N_TAKEN: usize = 1000;
    const BITS: usize = 21;
    let Some(_pages) = LargePages::reserve(4) else {
        eprintln!("NOT RUN: it takes 4 large pages, and root to reserve them");
        return;
    };
    let flags = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
    // SAFETY: a plain call with a valid name; the new fd is nobody else's, if there is one.
    let file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"joined".as_ptr(), flags)) };
    file.set_len((N << BITS) as u64).unwrap();
    let map = std::mem::ManuallyDrop::new(sys::map_shared(&file, 0, N << BITS).unwrap());
    let base = map.as_mut_ptr() as usize;
    let is_told = userfault::tell_by_signal(base, N << BITS);
    let (account, of_all) = (Arc::new(Account::default()), Mutex::default());
    let take_away = |page: usize| {
        use std::os::fd::AsRawFd;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (at, len) = ((page << BITS).cast_signed() as i64, 1 << BITS);
        // SAFETY: a plain call on an open file.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) };
        assert_eq!(done, 0);
    };
    let n_mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("joined")).count()
    };
    let presence = Presence::new(
        file.try_clone().unwrap(),
        0,
        base,
        N << BITS,
        1 << BITS,
        is_told,
        account.clone(),
    );
    let mut mappings = [Arc::new(presence)];
    let mut most = 0;
    for page in (0..N_TAKEN).map(|n| n * 37 % N) {
        let presence = mappings[0].clone();
        // As the signal handler does. SAFETY: a whole page of the mapping above.
        assert!(unsafe { userfault::put_empty_pages(base + (page << BITS), 1 << BITS) });
        presence.lose(page << BITS);
        lock(&account.credit).paid_until = 0;
        assert!(serve_one(&mut mappings, &of_all).has_made && presence.has(page));
        *lock(&of_all) = Credit::default();
        // SAFETY: eight bytes of it, and they are there.
        unsafe { ((base + (page << BITS)) as *mut u64).write_volatile(7) };
        take_away(page);
        most = most.max(n_mappings());
    }
    assert_eq!(mappings[0].n_lost(), N_TAKEN as u64);
    assert!((32..=72).contains(&most), "{most} mappings");
    mappings[0].end();
    assert_eq!((account.n_holes(), account.n_apart()), (0, 0));
    // SAFETY: nobody uses it any more.
    unsafe { sys::unmap(std::mem::ManuallyDrop::into_inner(map), 1 << BITS) };
}
