//! Work of control that may hold up a core, one piece after another: with a rest behind each that
//! took long, so that the core gets its turn.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// An ordinary piece takes a microsecond.
const LONG: Duration = Duration::from_micros(100);
/// The rest, as a multiple of what the piece took, and at most.
const REST: (u32, Duration) = (9, Duration::from_millis(100));

/// Does `work` for each of `items`.
pub(crate) fn each<T>(items: &mut [T], mut work: impl FnMut(&mut T)) {
    let n = items.len();
    for (item, n_done) in items.iter_mut().zip(1..) {
        let begun = Instant::now();
        work(item);
        let took = begun.elapsed();
        if took > LONG && n_done < n {
            sleep((took * REST.0).min(REST.1));
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// As the removal of a kick that 50,000 watch, while its front-end signals it without a pause.
    #[test]
    fn what_takes_long_has_a_tenth_of_the_time() {
        let each_takes = Duration::from_millis(5);
        let (mut items, begun) = ([(); 4], Instant::now());
        each(&mut items, |()| sleep(each_takes));
        assert!(
            begun.elapsed() >= 4 * each_takes + 3 * 9 * each_takes,
            "{:?}",
            begun.elapsed()
        );
    }
}
