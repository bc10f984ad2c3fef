//! `burst/vm-to-vm-*`: a whole burst from one guest's ring to another's, both guests in this thread. Prints busy TSC cycles a
//! frame: minimum, median and maximum of many short runs, the cases taking turns.
#![allow(missing_docs)]

use benches::Pair;
use guest::flows::Vary;
use pmd::limits::{LimitOptions, QueueOptions};

/// More than is ever sent here: a limit that costs what limits cost, and holds nothing back.
const AMPLE: LimitOptions = LimitOptions {
    bits_per_sec: Some(400_000_000_000),
    packets_per_sec: Some(1_000_000_000),
    burst_bytes: None,
    queue: Some(QueueOptions { time: 20_000_000, bytes_max: 1 << 23 }),
};

fn main() {
    let cases: &mut [(&str, Pair)] = &mut [
        ("burst/vm-to-vm-64B", Pair::new(64, 1, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-limits", Pair::with_limits(64, 1, Vary::Ip, 52, AMPLE)),
        ("burst/vm-to-vm-64B-linux", Pair::new(64, 1, Vary::Ip, 0)),
        ("burst/vm-to-vm-512B", Pair::new(512, 1, Vary::Ip, 52)),
        ("burst/vm-to-vm-1500B", Pair::new(1500, 1, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-1k-macs", Pair::new(64, 1000, Vary::Mac, 52)),
        ("burst/vm-to-vm-64B-100k-macs", Pair::new(64, 100_000, Vary::Mac, 52)),
        ("burst/vm-to-vm-64B-rules", Pair::with_rules(64, 1, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-rules-37", Pair::with_rules(64, 37, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-rules-1k", Pair::with_rules(64, 1000, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-rules-100k", Pair::with_rules(64, 100_000, Vary::Ip, 52)),
        ("burst/vm-to-vm-64B-rules-1M", Pair::with_rules(64, 1_000_000, Vary::Ip, 52)),
    ];
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    for (_, pair) in cases.iter_mut().filter(|(name, _)| is_wanted(name)) {
        pair.meet_all();
    }
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..100 {
        for ((name, pair), runs) in cases.iter_mut().zip(&mut results) {
            if is_wanted(name) {
                runs.push(pair.cycles_per_frame(1000));
            }
        }
    }
    for ((name, _), runs) in cases.iter().zip(&mut results) {
        runs.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (runs.first(), runs.last()) {
            println!("{name:32} {least:7.1} {:7.1} {most:7.1} cycles/frame (min median max)", runs[runs.len() / 2]);
        }
    }
}
