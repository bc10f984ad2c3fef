//! What the program prints: a line a second, a line or a JSON object at the end.

use std::fmt::Write;
use std::time::Instant;

/// Named numbers in order, printed as `name value` or as JSON.
#[derive(Debug, Default)]
pub(crate) struct Record(Vec<(&'static str, String)>);

impl Record {
    pub(crate) fn int(mut self, name: &'static str, value: u64) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    pub(crate) fn real(mut self, name: &'static str, value: f64) -> Self {
        self.0.push((name, format!("{value:.3}")));
        self
    }

    pub(crate) fn text(mut self, name: &'static str, value: &str) -> Self {
        self.0
            .push((name, format!("\"{}\"", value.escape_default())));
        self
    }

    pub(crate) fn print(&self, json: bool) {
        let mut line = String::new();
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let end = if json {
                write!(line, "{comma}\"{name}\": {value}")
            } else {
                write!(line, "{comma}{name} {value}")
            };
            end.expect("writing to a string");
        }
        if json {
            println!("{{{line}}}")
        } else {
            println!("{line}")
        }
    }
}

/// Prints rates of two counts about once a second.
#[derive(Debug)]
pub(crate) struct Ticker {
    quiet: bool,
    start: Instant,
    last: Instant,
    counts: [u64; 2],
}

impl Ticker {
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            start: now,
            last: now,
            counts: [0; 2],
        }
    }

    pub(crate) fn tick(&mut self, counts: [u64; 2]) {
        let seconds = self.last.elapsed().as_secs_f64();
        if seconds < 1.0 {
            return;
        }
        let rate = |i: usize| per(counts[i] - self.counts[i], seconds) / 1e6;
        if !self.quiet {
            println!(
                "{:6.1} s  sent {:8.3} Mpps  received {:8.3} Mpps",
                self.seconds(),
                rate(0),
                rate(1)
            );
        }
        (self.last, self.counts) = (Instant::now(), counts);
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// A quotient; 0 for nothing.
#[expect(clippy::cast_precision_loss, reason = "counts for people")]
pub(crate) fn per(count: u64, by: f64) -> f64 {
    if by > 0.0 { count as f64 / by } else { 0.0 }
}
