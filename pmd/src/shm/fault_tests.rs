//! Signals beside mappings that come and go on other threads.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::atomic::AtomicBool;

use super::super::account::Account;
use super::super::guest::GuestMemory;
use super::super::presence::HOLES_MAX;
use super::super::region::RegionSpec;
use super::*;

const PAGE: usize = 4096;

fn memfd(len: usize) -> File {
    // SAFETY: a plain call with a valid name; the new fd is nobody else's.
    let file =
        unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(len as u64).unwrap();
    file
}

fn memory(file: &File, len: usize) -> GuestMemory {
    let region = RegionSpec {
        guest_addr: 0,
        user_addr: 1 << 40,
        len: len as u64,
        file_offset: 0,
        file: file.try_clone().unwrap(),
    };
    GuestMemory::new(vec![region]).unwrap()
}

#[test]
fn mappings_that_come_and_go_beside_signals_keep_their_bytes() {
    const ROUNDS: usize = 300;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Neighbours: mappings of many lengths, in slots that are given up and taken all the time,
        // each with a mark in every page.
        for n in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let pages = [1, 2, 7, 64][n * 2..n * 2 + 2].iter().cycle();
                for &n_pages in pages {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let file = memfd(n_pages * PAGE);
                    let memory = memory(&file, n_pages * PAGE);
                    let at = |page: usize| {
                        memory
                            .window((page * PAGE) as u64)
                            .unwrap()
                            .piece((page * PAGE) as u64, 4)
                    };
                    (0..n_pages).for_each(|page| at(page).unwrap().write(b"weir"));
                    std::thread::yield_now();
                    for page in 0..n_pages {
                        let mut bytes = [0; 4];
                        at(page).unwrap().read(&mut bytes, 4);
                        assert_eq!(
                            &bytes, b"weir",
                            "page {page} of {n_pages}: somebody mapped over it"
                        );
                    }
                    assert!(!memory.is_damaged(), "nobody cut this file");
                }
            });
        }
        for round in 0..ROUNDS {
            // Two cores read, one after another is cut off, and the mapping ends as soon as control
            // sees it.
            let file = memfd(8 * PAGE);
            let memory = memory(&file, 8 * PAGE);
            let piece = memory.window(0).unwrap().piece(7 * PAGE as u64, 8).unwrap();
            let mut before = [1; 8];
            piece.read(&mut before, 8);
            file.set_len(PAGE as u64).unwrap();
            std::thread::scope(|cores| {
                for _ in 0..2 {
                    cores.spawn(move || {
                        let mut bytes = [1; 8];
                        piece.read(&mut bytes, 8);
                        assert_eq!(bytes, [0; 8]);
                    });
                }
                while !memory.is_damaged() {
                    std::thread::yield_now();
                }
            });
            assert!(memory.is_damaged(), "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Of memory of which a core has touched all: what the signal for its last page takes, which its
/// front-end has cut off.
#[test]
fn page_that_is_cut_off_costs_no_more_however_much_memory_there_is() {
    const LEN: usize = 1 << 30;
    let file = memfd(LEN);
    let memory = memory(&file, LEN);
    let window = memory.window(0).unwrap();
    for page in 0..LEN / PAGE {
        window.piece((page * PAGE) as u64, 1).unwrap().write(b"w");
    }
    file.set_len((LEN - PAGE) as u64).unwrap();
    let at = |place: usize| window.piece(place as u64, 8).unwrap();
    let mut bytes = [1; 8];
    let begin = Instant::now();
    at(LEN - PAGE).read(&mut bytes, 8);
    let took = begin.elapsed();
    assert_eq!(bytes, [0; 8]);
    assert!(memory.is_damaged());
    assert!(took < Duration::from_millis(5), "{took:?}");
    // What lies far from there is as it was.
    at(0).read(&mut bytes, 8);
    assert_eq!(bytes, *b"w\0\0\0\0\0\0\0");
}

#[test]
fn page_alone_is_replaced_where_there_is_no_memory_for_a_window() {
    let (base, len) = (64 * WINDOW, 4 * WINDOW);
    let at = base + WINDOW + 5 * SMALL_PAGE + 17;
    let (window, page, all) = (
        (base + WINDOW, WINDOW),
        (base + WINDOW + 5 * SMALL_PAGE, SMALL_PAGE),
        (base, len),
    );
    for (may_split, can_be, put, expected) in [
        (true, vec![window], Put::ForGood, vec![window]),
        (true, vec![page], Put::ForGood, vec![window, page]),
        (true, vec![all], Put::ForGood, vec![window, page, all]),
        (true, vec![], Put::Nothing, vec![window, page, all]),
        // There are too many parts already.
        (false, vec![window, page, all], Put::ForGood, vec![all]),
    ] {
        let tried = std::cell::RefCell::new(Vec::new());
        let put_at = |from, n| {
            tried.borrow_mut().push((from, n));
            can_be.contains(&(from, n))
        };
        assert_eq!(
            put_pages_around(at, (base, len), None, may_split, put_at),
            put
        );
        assert_eq!(tried.into_inner(), expected);
    }
}

/// Others have used up the parts that may be put for good.
#[test]
fn large_page_that_is_put_back_is_no_part_that_others_can_use_up() {
    let (file, account) = (memfd(64 * PAGE), Arc::new(Account::default()));
    let base = 64 * WINDOW;
    let presence = Presence::new(file, 0, base, 64 * PAGE, PAGE, false, account);
    (0..64).for_each(|page| presence.grant(page));
    for (n_before, put, tried) in [
        (0, Put::Page, (base + 9 * PAGE, PAGE)),
        (HOLES_MAX, Put::ForGood, (base, 64 * PAGE)),
    ] {
        (32..32 + n_before).for_each(|page| presence.lose(page * PAGE));
        let put_at = |from, n| {
            assert_eq!((from, n), tried);
            true
        };
        let at = base + if n_before == 0 { 9 } else { 10 } * PAGE;
        assert_eq!(
            put_pages_around(at, (base, 64 * PAGE), Some(&presence), false, put_at),
            put
        );
    }
}

/// Every second window of a file that is not there any more, each of which would make two mappings
/// more, is touched by somebody who looks at no mark. The kernel allows a process 65,530.
#[test]
fn parts_that_are_cut_off_don_t_use_up_the_mappings_that_a_process_may_have() {
    const N: usize = 40_000;
    let file = memfd(2 * N * WINDOW);
    let memory = memory(&file, 2 * N * WINDOW);
    let window = memory.window(0).unwrap();
    file.set_len(0).unwrap();
    let mut bytes = [1; 8];
    for n in 0..N {
        window
            .piece((2 * n * WINDOW) as u64, 8)
            .unwrap()
            .read(&mut bytes, 8);
        assert_eq!(bytes, [0; 8]);
    }
    assert!(memory.is_damaged());
    // The kernel has enough of them for others.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(
        maps.lines().count() < 10_000,
        "{} mappings",
        maps.lines().count()
    );
}

/// Of memory of which a core has touched all: whoever changes the process's mappings while it is
/// unmapped, as a handler does, does not wait for the end of that.
#[test]
fn memory_that_is_unmapped_lets_others_change_mappings_meanwhile() {
    const LEN: usize = 1 << 30;
    /// How often they do at least, while it lasts.
    const MIN: usize = 50;
    let n_meanwhile = || {
        let file = memfd(LEN);
        let memory = memory(&file, LEN);
        let window = memory.window(0).unwrap();
        (0..LEN / PAGE).for_each(|page| window.piece((page * PAGE) as u64, 1).unwrap().write(b"w"));
        let begin = std::sync::Barrier::new(2);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let unmapping = scope.spawn(|| {
                begin.wait();
                drop(memory);
                is_over.store(true, Ordering::Release);
            });
            let part = memfd(PAGE);
            begin.wait();
            let mut n = 0;
            while !is_over.load(Ordering::Acquire) {
                drop(self::memory(&part, PAGE));
                n += 1;
            }
            unmapping.join().unwrap();
            n
        })
    };
    // Threads of others may keep these two apart, or hold up the one that unmaps.
    let mut tries: Vec<usize> = (0..5).map(|_| n_meanwhile()).collect();
    tries.sort_unstable();
    assert!(tries[2] >= MIN, "{tries:?} times");
}

/// Nobody waits for such: a rest after each part of it would take seconds.
#[test]
fn memory_that_nobody_touched_is_unmapped_at_once_however_much_it_is() {
    const LEN: usize = 1 << 35;
    let took = (0..3).map(|_| {
        let memory = memory(&memfd(LEN), LEN);
        let begin = Instant::now();
        drop(memory);
        begin.elapsed()
    });
    let took = took.min().unwrap();
    assert!(took < Duration::from_millis(300), "{took:?}");
}
