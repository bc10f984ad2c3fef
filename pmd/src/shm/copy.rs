//! The one copy. Loads and stores are machine instructions the compiler can't see into, so it can
//! neither repeat nor merge them.

/// Asks for a line to be read. Any address will do.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    // SAFETY: a prefetch has no effect that can be seen, whatever the address.
    unsafe { core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast()) };
}

#[cfg(not(any(miri, fuzzing)))]
mod machine {
    use core::arch::asm;

    macro_rules! word {
        ($load:ident $store:ident $type:ty, $reg:ident, $width:literal) => {
            /// One load, unaligned, that the compiler can't repeat or split.
            ///
            /// # Safety
            /// The bytes are mapped.
            #[inline(always)]
            pub(crate) unsafe fn $load(from: *const u8) -> $type {
                let value: $type;
                // SAFETY: the caller's promise.
                unsafe {
                    asm!(
                        concat!("mov {v:", $width, "}, [{p}]"),
                        v = out($reg) value,
                        p = in(reg) from,
                        options(nostack, preserves_flags, readonly)
                    );
                }
                value
            }

            /// One store, unaligned.
            ///
            /// # Safety
            /// The bytes are mapped and writable.
            #[allow(dead_code, reason = "not every width is stored")]
            #[inline(always)]
            pub(crate) unsafe fn $store(to: *mut u8, value: $type) {
                // SAFETY: the caller's promise.
                unsafe {
                    asm!(
                        concat!("mov [{p}], {v:", $width, "}"),
                        v = in($reg) value,
                        p = in(reg) to,
                        options(nostack, preserves_flags)
                    );
                }
            }
        };
    }
    word!(load_u64 store_u64 u64, reg, "r");
    word!(load_u32 store_u32 u32, reg, "e");
    word!(load_u16 store_u16 u16, reg, "x");

    /// Four used-ring entries (an id, then a length, 32 bits each) by one compare and, where they
    /// differ, one store.
    ///
    /// # Safety
    /// 32 bytes are mapped and writable.
    #[inline(always)]
    pub(crate) unsafe fn store_four_if_different(to: *mut u8, ids: &[u16; 4], lens: &[u32; 4]) {
        use core::arch::x86_64::{
            __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_cmpeq_epi64, _mm256_cvtepu16_epi64,
            _mm256_cvtepu32_epi64, _mm256_movemask_epi8, _mm256_or_si256, _mm256_slli_epi64,
        };
        let there: __m256i;
        // SAFETY: the arrays are as long as what is loaded of them; `to` is the caller's promise.
        // Every CPU that this is compiled for has AVX2.
        unsafe {
            let ids = _mm256_cvtepu16_epi64(_mm_loadl_epi64(ids.as_ptr().cast()));
            let lens = _mm256_cvtepu32_epi64(_mm_loadu_si128(lens.as_ptr().cast()));
            let entries = _mm256_or_si256(ids, _mm256_slli_epi64::<32>(lens));
            asm!(
                "vmovdqu {v}, [{p}]",
                v = out(ymm_reg) there,
                p = in(reg) to,
                options(nostack, preserves_flags, readonly)
            );
            if _mm256_movemask_epi8(_mm256_cmpeq_epi64(entries, there)) != -1 {
                asm!(
                    "vmovdqu [{p}], {v}",
                    v = in(ymm_reg) entries,
                    p = in(reg) to,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    macro_rules! two_halves {
        ($name:ident, $register:ident, $load:literal, $width:literal) => {
            /// `n` bytes by two loads and two stores that may overlap in the middle; `n` is between
            /// one and two widths.
            ///
            /// # Safety
            /// As [`super::copy`].
            #[inline(always)]
            pub(crate) unsafe fn $name(to: *mut u8, from: *const u8, n: usize) {
                // SAFETY: first and last `width` bytes of a range of `n >= width`.
                unsafe {
                    asm!(
                        concat!($load, " {a}, [{s}]"),
                        concat!($load, " {b}, [{s} + {n} - ", $width, "]"),
                        concat!($load, " [{d}], {a}"),
                        concat!($load, " [{d} + {n} - ", $width, "], {b}"),
                        s = in(reg) from, d = in(reg) to, n = in(reg) n,
                        a = out($register) _, b = out($register) _,
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }
    two_halves!(halves_32, ymm_reg, "vmovdqu", "32");
    two_halves!(halves_16, xmm_reg, "vmovdqu", "16");
    two_halves!(halves_8, reg, "mov", "8");

    /// 64 bytes.
    ///
    /// # Safety
    /// As [`super::copy`].
    #[inline(always)]
    pub(crate) unsafe fn line(to: *mut u8, from: *const u8) {
        // SAFETY: the caller's promise for 64 bytes.
        unsafe {
            asm!(
                "vmovdqu {a}, [{s}]",
                "vmovdqu {b}, [{s} + 32]",
                "vmovdqu [{d}], {a}",
                "vmovdqu [{d} + 32], {b}",
                s = in(reg) from, d = in(reg) to, a = out(ymm_reg) _, b = out(ymm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Under eight bytes.
    ///
    /// # Safety
    /// As [`super::copy`].
    #[inline(always)]
    pub(crate) unsafe fn few(to: *mut u8, from: *const u8, n: usize) {
        for at in 0..n {
            // SAFETY: each byte is inside both ranges.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
    }
}

#[cfg(any(miri, fuzzing))]
mod machine {
    //! The same by bytes, for Miri, which knows no machine instructions, and AddressSanitizer,
    //! which does not see into them.
    macro_rules! word {
        ($load:ident $store:ident $type:ty) => {
            /// # Safety
            /// As of the instruction.
            pub(crate) unsafe fn $load(from: *const u8) -> $type {
                // SAFETY: the caller's promise, as for the instruction.
                unsafe { from.cast::<$type>().read_unaligned() }
            }
            /// # Safety
            /// As of the instruction.
            #[allow(dead_code, reason = "not every width is stored")]
            pub(crate) unsafe fn $store(to: *mut u8, value: $type) {
                // SAFETY: the caller's promise, as for the instruction.
                unsafe { to.cast::<$type>().write_unaligned(value) }
            }
        };
    }
    word!(load_u64 store_u64 u64);
    word!(load_u32 store_u32 u32);
    word!(load_u16 store_u16 u16);

    /// # Safety
    /// As of the instructions.
    pub(crate) unsafe fn store_four_if_different(to: *mut u8, ids: &[u16; 4], lens: &[u32; 4]) {
        for (at, (&id, &len)) in ids.iter().zip(lens).enumerate() {
            // SAFETY: the caller's promise covers four words.
            unsafe { store_u64(to.add(8 * at), u64::from(id) | u64::from(len) << 32) }
        }
    }

    /// # Safety
    /// As [`super::copy`].
    pub(crate) unsafe fn few(to: *mut u8, from: *const u8, n: usize) {
        // SAFETY: the caller's promise; the ranges may overlap.
        unsafe { std::ptr::copy(from, to, n) }
    }
    pub(crate) use {few as halves_8, few as halves_16, few as halves_32};
    pub(crate) unsafe fn line(to: *mut u8, from: *const u8) {
        // SAFETY: the caller's promise covers 64 bytes.
        unsafe { few(to, from, 64) }
    }
}

pub(crate) use machine::{
    load_u16, load_u32, load_u64, store_four_if_different, store_u16, store_u32, store_u64,
};

/// Copies `n` bytes, reading and writing nothing outside them. A byte may be read twice where two
/// loads overlap; nothing is decided by what this copies.
///
/// # Safety
/// `n` bytes are mapped at `from`, and at `to`, writable.
#[inline(always)]
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: every branch stays inside the first `n` bytes: blocks of 64 while that many are left,
    // then the last 64 once more, or for fewer than 64 bytes two halves of the next smaller power
    // of two.
    unsafe {
        if n >= 64 {
            machine::line(to, from);
            if n > 64 {
                let mut at = 64;
                while at + 64 < n {
                    machine::line(to.add(at), from.add(at));
                    at += 64;
                }
                machine::line(to.add(n - 64), from.add(n - 64));
            }
        } else {
            copy_under_64(to, from, n);
        }
    }
}

/// The same for fewer than 64 bytes.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
unsafe fn copy_under_64(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: as in `copy`.
    unsafe {
        match n {
            32.. => machine::halves_32(to, from, n),
            16.. => machine::halves_16(to, from, n),
            8.. => machine::halves_8(to, from, n),
            _ => machine::few(to, from, n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_of_any_length_moves_just_those_bytes() {
        let from: Vec<u8> = (0..=255).cycle().skip(7).take(700).collect();
        for n in (0..200).chain([255, 256, 511, 640]) {
            for shift in [0, 1, 13] {
                let mut to = vec![0xee; 720];
                // SAFETY: both vectors are longer than `shift + n`.
                unsafe { copy(to.as_mut_ptr().add(shift + 4), from.as_ptr().add(shift), n) };
                assert_eq!(&to[shift + 4..shift + 4 + n], &from[shift..shift + n]);
                assert!(
                    to[..shift + 4]
                        .iter()
                        .chain(&to[shift + 4 + n..])
                        .all(|&b| b == 0xee),
                    "{n} bytes spilled"
                );
            }
        }
    }
}
