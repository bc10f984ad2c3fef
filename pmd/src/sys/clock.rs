//! The cycle counter, the kernel's clocks, and whether the CPU is new enough.

/// The time-stamp counter. Cycles of a constant rate, the same on all CPUs of a machine with
/// `constant_tsc`.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(miri)]
    return 0;
    #[cfg(not(miri))]
    // SAFETY: the instruction exists on every x86-64 CPU and has no effect but its result.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Whether the CPU has the instructions that this program was compiled for (x86-64-v3).
pub fn cpu_is_new_enough() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma")
}
