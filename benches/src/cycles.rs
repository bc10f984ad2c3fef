//! TSC cycles as what criterion measures.

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use pmd::sys;

/// Cycles of the time-stamp counter.
#[derive(Debug)]
pub struct Cycles;

impl Measurement for Cycles {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        sys::cycles()
    }

    fn end(&self, start: u64) -> u64 {
        sys::cycles().wrapping_sub(start)
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Cycles {
    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        "cycles"
    }

    /// Cycles an element: the fewer the better, as for the values themselves.
    fn scale_throughputs(&self, _typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let (n, unit) = match throughput {
            Throughput::Elements(n) => (*n, "cycles/packet"),
            Throughput::Bytes(n) => (*n, "cycles/byte"),
            _ => (1, "cycles"),
        };
        values.iter_mut().for_each(|value| *value /= n as f64);
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "cycles"
    }
}
