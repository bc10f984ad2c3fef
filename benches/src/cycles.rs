//! TSC cycles as what criterion measures: cycles of one frame, and the frames and bytes a second
//! that this makes.

use std::sync::LazyLock;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use pmd::sys;
use pmd::time::Clock;

/// Cycles of the time-stamp counter.
#[derive(Debug)]
pub struct Cycles;

/// Cycles in a second.
static HZ: LazyLock<f64> = LazyLock::new(|| 1e18 / Clock::calibrate().span(1_000_000_000) as f64);

impl Measurement for Cycles {
    type Intermediate = u64;
    type Value = f64;

    fn start(&self) -> u64 {
        sys::cycles()
    }

    fn end(&self, start: u64) -> f64 {
        sys::cycles().wrapping_sub(start) as f64
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Cycles {
    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        "cycles"
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let (n, units) = match throughput {
            Throughput::Elements(n) | Throughput::ElementsAndBytes { elements: n, .. } => {
                (*n, ["frames/s", "kframes/s", "Mframes/s", "Gframes/s"])
            }
            Throughput::Bytes(n) | Throughput::BytesDecimal(n) => {
                (*n, ["B/s", "kB/s", "MB/s", "GB/s"])
            }
            Throughput::Bits(n) => (*n, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]),
        };
        let per_second = n as f64 * *HZ;
        let step = ((per_second / typical).log10() / 3.0).clamp(0.0, 3.0) as usize;
        let unit = 1000f64.powi(step as i32);
        values
            .iter_mut()
            .for_each(|value| *value = per_second / *value / unit);
        units[step]
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "cycles"
    }
}
