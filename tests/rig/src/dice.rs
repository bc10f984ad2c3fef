//! Numbers from a seed.

use std::ops::Range;

/// Seeds of a scenario: all of them, or the one that the variable `SEED` names. Each is printed, so
/// that the output of a failed test ends with its own.
pub fn seeds(all: Range<u64>) -> impl Iterator<Item = u64> {
    let only = std::env::var("SEED").map(|seed| seed.parse().expect("SEED is a number"));
    let range = only.map_or(all, |seed: u64| seed..seed + 1);
    range.inspect(|seed| println!("SEED={seed}"))
}

/// Numbers from a seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}
