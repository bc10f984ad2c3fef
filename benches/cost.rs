//! For `./x cost`: a number of bursts from one guest to another, to be counted by callgrind, which
//! looks at `poll_once` alone.
//!
//!     cost CASE BURSTS        CASE: plain | limits, where a limit that holds nothing back is on
//!                             both VMs | rules, where the receiver has one that denies none of it
//!
//! Run by `cargo bench` without words, it does a few of each and counts nothing.
#![allow(missing_docs)]

use benches::Pair;
use guest::flows::Vary;
use pmd::limit::{LimitOptions, QueueOptions};

fn main() {
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    match &words[..] {
        [case, n_bursts] => run(case, n_bursts.parse().expect("a number of bursts")),
        _ => ["plain", "limits", "rules"]
            .into_iter()
            .for_each(|case| run(case, 10)),
    }
}

fn run(case: &str, n_bursts: u32) {
    let ample = LimitOptions {
        bits_per_sec: Some(400_000_000_000),
        packets_per_sec: Some(1_000_000_000),
        burst_bytes: None,
        queue: Some(QueueOptions {
            time: 20_000_000,
            bytes_max: 1 << 23,
        }),
    };
    let mut pair = match case {
        "plain" => Pair::new(64, 1, Vary::Ip, 52),
        "limits" => Pair::with_limits(64, 1, Vary::Ip, 52, ample),
        "rules" => Pair::with_rules(64, 1, Vary::Ip, 52),
        _ => panic!("no such case: {case}"),
    };
    pair.cycles_per_frame(n_bursts);
}
