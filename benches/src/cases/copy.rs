//! `copy/*`: the one copy, from one guest's memory into another's, with the look-up of both places.

use std::hint::black_box;

use guest::GuestDriver;
use rig::{memory_of, options};

use super::{Case, Run};
use crate::timed;

/// Places that are copied from and to in turn: more than a core keeps at hand.
const PLACES: u64 = 128;
const PLACE_BYTES: u64 = 2048;

pub(super) fn cases() -> Vec<Case> {
    let case = |len: u32| Case::of_frames(format!("copy/{len}B"), len as usize, move || copy(len));
    [64, 128, 512, 1500, 9000].map(case).into()
}

fn copy(len: u32) -> Run {
    let guest = || GuestDriver::new(options()).expect("memory");
    let guests = [guest(), guest()];
    let [a, b] = guests.each_ref().map(memory_of);
    // Behind the rings, where buffers lie.
    let base = |guest: &GuestDriver| guest.memory().regions()[0].spec().gpa + (64 << 10);
    let (from, to) = (base(&guests[0]), base(&guests[1]));
    let step = u64::from(len).next_multiple_of(PLACE_BYTES);
    let pattern: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
    guests[0].memory().write(from, &pattern);
    assert!(a.copy_to(from, &b, to, len));
    let mut copied = vec![0; len as usize];
    guests[1].memory().read(to, &mut copied);
    assert_eq!(copied, pattern);
    let mut place = 0;
    Box::new(move |n_frames| {
        timed(n_frames, || {
            for _ in 0..n_frames {
                place = (place + step) % (PLACES * PLACE_BYTES);
                assert!(a.copy_to(black_box(from + place), &b, to + place, len));
            }
        })
    })
}
