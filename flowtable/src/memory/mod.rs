//! Memory that cores share: lines of atomics, which are core's or loom's.

#[allow(unsafe_code)] // memory that is zero, and a prefetch
pub(crate) mod cache_line;
pub(crate) mod sync;
