//! A guest's memory: the files its front-end shares, mapped, and where in them its addresses lead.
//!
//! An immutable value. Control builds a new one when regions come or go (mappings that stay are
//! shared between the two) and hands it to the cores; the last holder of a mapping unmaps it.

use std::sync::Arc;

use super::copy::prefetch;
use super::damage::Damage;
use super::pager;
use super::piece::Piece;
use super::presence::Account;
use super::region::{Region, RegionSpec, Source, map};
use super::window::Window;
use crate::error::SetupError;
use crate::sys::{self, FileId};

/// Bytes of a page that a core may make itself: it takes a microsecond or two.
const SMALL_PAGE: u64 = 4096;

/// All regions of one guest.
#[derive(Debug, Default)]
pub struct GuestMemory {
    /// By guest address.
    regions: Vec<Region>,
    /// Whether some mapping has pages that cores may not touch yet.
    is_paged: bool,
    /// What the guest may have put back of pages that it takes away; values that are made of this
    /// one share it.
    pub(super) account: Arc<Account>,
}

impl GuestMemory {
    /// Maps every region.
    ///
    /// # Errors
    /// When a region wraps, overlaps another, is longer than its file, or its file isn't memory
    /// that can be shared.
    pub fn new(specs: Vec<RegionSpec>) -> Result<Self, SetupError> {
        Self::default().replaced_by(specs)
    }

    /// These regions instead. Those that are the same as one of this value share its mapping.
    ///
    /// # Errors
    /// As [`GuestMemory::new`].
    pub fn replaced_by(&self, specs: Vec<RegionSpec>) -> Result<Self, SetupError> {
        specs
            .into_iter()
            .try_fold(self.of(Vec::new()), |memory, spec| {
                memory.check_apart(spec.guest_addr, spec.user_addr, spec.len)?;
                let region = self
                    .same_region(&spec)
                    .cloned()
                    .map_or_else(|| self.map_as_it_is(&spec), Ok)?;
                Ok(memory.insert(region))
            })
    }

    /// The same and one region more; the mappings so far are shared with this value.
    ///
    /// # Errors
    /// As [`GuestMemory::new`].
    pub fn with(&self, spec: RegionSpec) -> Result<Self, SetupError> {
        self.check_apart(spec.guest_addr, spec.user_addr, spec.len)?;
        Ok(self.insert(self.map_as_it_is(&spec)?))
    }

    /// Whether this very region is there already: the same addresses, and the same part of the same
    /// file.
    pub fn holds(&self, spec: &RegionSpec) -> bool {
        self.same_region(spec).is_some()
    }

    /// Whether both were made of one value, and so have one account of what was put back for their
    /// guest.
    pub fn is_of_same_guest(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.account, &other.account)
    }

    /// Whether both have the same regions, in the same mappings.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let is_same = |(a, b): (&Region, &Region)| {
            Arc::ptr_eq(&a.mapping, &b.mapping)
                && a.is_at(b.guest_addr, b.user_addr, b.len)
                && a.host == b.host
        };
        self.n_regions() == other.n_regions()
            && self.regions.iter().zip(&other.regions).all(is_same)
    }

    fn same_region(&self, spec: &RegionSpec) -> Option<&Region> {
        let region = self
            .regions
            .iter()
            .find(|r| r.is_at(spec.guest_addr, spec.user_addr, spec.len))?;
        let facts = sys::file_facts(&spec.file).ok()?;
        (region.source == Some(Source::new(&facts, spec.file_offset))).then_some(region)
    }

    /// Whether a region there would be a range, and apart from all others.
    pub(super) fn check_apart(
        &self,
        guest_addr: u64,
        user_addr: u64,
        len: u64,
    ) -> Result<(), SetupError> {
        check_range("guest", guest_addr, len)?;
        check_range("user", user_addr, len)?;
        for other in &self.regions {
            let apart = |a: u64, b: u64| a + len <= b || b + other.len <= a;
            if !apart(guest_addr, other.guest_addr) || !apart(user_addr, other.user_addr) {
                return Err(SetupError::new(format!(
                    "the front-end's memory region at {guest_addr:#x} overlaps the one at {:#x}",
                    other.guest_addr
                )));
            }
        }
        Ok(())
    }

    pub(super) fn insert(&self, region: Region) -> Self {
        let mut regions = self.regions.clone();
        let place = regions.partition_point(|r| r.guest_addr < region.guest_addr);
        regions.insert(place, region);
        self.of(regions)
    }

    /// The same without one region.
    ///
    /// # Errors
    /// When there is no such region.
    pub fn without(&self, guest_addr: u64, user_addr: u64, len: u64) -> Result<Self, SetupError> {
        let is_it = |r: &Region| r.is_at(guest_addr, user_addr, len);
        if !self.regions.iter().any(is_it) {
            return Err(SetupError::new(format!(
                "the front-end removes a memory region at {guest_addr:#x} that it never added"
            )));
        }
        Ok(self.of(self.regions.iter().filter(|r| !is_it(r)).cloned().collect()))
    }

    fn of(&self, regions: Vec<Region>) -> Self {
        let is_paged = regions.iter().any(|r| r.mapping.presence.is_some());
        Self {
            regions,
            is_paged,
            account: self.account.clone(),
        }
    }

    fn map_as_it_is(&self, spec: &RegionSpec) -> Result<Region, SetupError> {
        let is_paged = sys::file_facts(&spec.file).is_ok_and(|facts| facts.page > SMALL_PAGE);
        map(spec, &self.account, is_paged)
    }

    /// How many regions there are.
    pub fn n_regions(&self) -> usize {
        self.regions.len()
    }

    /// Bytes in all regions.
    pub fn n_bytes(&self) -> u64 {
        self.regions.iter().map(|r| r.len).sum()
    }

    /// Whether a region is of this file.
    pub fn has_file(&self, file: FileId) -> bool {
        self.regions.iter().any(|r| r.mapping.file == Some(file))
    }

    /// The file that the longest region is of.
    pub fn main_file(&self) -> Option<FileId> {
        self.regions.iter().max_by_key(|r| r.len)?.mapping.file
    }

    /// Whether a file was cut short under us, or has no memory left; see [`super::fault`]. Of
    /// values that are made of one, all are then.
    pub fn is_damaged(&self) -> bool {
        self.account.damage.is_done()
    }

    /// The same, to be kept without keeping the memory.
    pub fn damage(&self) -> &Arc<Damage> {
        &self.account.damage
    }

    /// Large pages that the front-end had taken away when a core touched them.
    pub fn n_lost_pages(&self) -> u64 {
        self.regions
            .iter()
            .filter_map(|r| r.mapping.presence.as_ref())
            .map(|presence| presence.n_lost())
            .sum()
    }

    /// The window around a guest address: all of its region, or, where cores may not touch all of
    /// that yet, the pages around that they may. None: there is none, or it isn't to be touched;
    /// [`GuestMemory::may_touch`] tells them apart.
    #[inline(never)]
    pub(crate) fn window(&self, addr: u64) -> Option<Window> {
        let region = self.region(addr)?;
        match &region.mapping.presence {
            None => Some(Window {
                guest_addr: region.guest_addr,
                len: region.len,
                host: region.host,
            }),
            Some(presence) => region.granted_window(presence, addr),
        }
    }

    fn region(&self, addr: u64) -> Option<&Region> {
        let behind = self.regions.partition_point(|r| r.guest_addr <= addr);
        let region = &self.regions[behind.checked_sub(1)?];
        (addr - region.guest_addr < region.len).then_some(region)
    }

    /// Whether a guest address leads anywhere.
    pub(crate) fn has(&self, addr: u64) -> bool {
        self.region(addr).is_some()
    }

    /// Whether a core may touch these bytes now, as far as they are somewhere. If not, their pages
    /// are being made, off the core; ask again.
    #[inline]
    pub(crate) fn may_touch(&self, addr: u64, len: u32) -> bool {
        !self.is_paged || self.is_granted(addr, len)
    }

    #[cold]
    #[inline(never)]
    fn is_granted(&self, mut addr: u64, len: u32) -> bool {
        let (mut left, mut is_whole) = (u64::from(len.max(1)), true);
        while left > 0 {
            let Some(region) = self.region(addr) else {
                return is_whole;
            };
            let at = addr - region.guest_addr;
            let here = left.min(region.len - at);
            if let Some(presence) = &region.mapping.presence {
                is_whole &=
                    presence.is_granted(region.in_mapping(at), usize::try_from(here).unwrap_or(0));
            }
            left -= here;
            let Some(next) = addr.checked_add(here) else {
                return is_whole;
            };
            addr = next;
        }
        is_whole
    }

    /// The bytes at a guest address, in as many pieces as regions they cross; false when some of
    /// them are nowhere, or `put` says that it has no room. `window`: where to look first, and then
    /// what the last of them lies in.
    pub(crate) fn pieces(
        &self,
        window: &mut Window,
        mut addr: u64,
        mut len: u32,
        mut put: impl FnMut(Piece) -> bool,
    ) -> bool {
        if addr.checked_add(u64::from(len)).is_none() {
            return false;
        }
        while len > 0 {
            if window.piece(addr, 1).is_none() {
                let Some(found) = self.window(addr) else {
                    return false;
                };
                *window = found;
            }
            let here = u32::try_from(window.len - (addr - window.guest_addr))
                .unwrap_or(u32::MAX)
                .min(len);
            match window.piece(addr, here) {
                Some(piece) if put(piece) => {}
                _ => return false,
            }
            addr += u64::from(here);
            len -= here;
        }
        true
    }

    /// A ring's place: `len` bytes at a front-end address, all in one region, made present in
    /// memory.
    pub(crate) fn ring_at(&self, user_addr: u64, len: u64, align: u64) -> Option<*mut u8> {
        let region = self
            .regions
            .iter()
            .find(|r| user_addr >= r.user_addr && user_addr - r.user_addr < r.len)?;
        let at = user_addr - region.user_addr;
        let host = region.host.wrapping_add(usize::try_from(at).ok()?);
        if len > region.len - at || !(host as u64).is_multiple_of(align) {
            return None;
        }
        let n_bytes = usize::try_from(len).ok()?;
        if let Some(presence) = &region.mapping.presence {
            pager::grant_now(presence, region.in_mapping(at), n_bytes);
        }
        // SAFETY: the range is inside the region's mapping.
        let is_there = unsafe { sys::prefault(host, n_bytes) };
        // A large page that was taken away meanwhile is put back.
        if !is_there && region.mapping.presence.is_none() {
            self.account.damage.done();
        }
        prefetch(host);
        Some(host)
    }
}

fn check_range(kind: &str, addr: u64, len: u64) -> Result<(), SetupError> {
    if len == 0 || addr.checked_add(len).is_none() {
        return Err(SetupError::new(format!(
            "the front-end's memory region at {kind} address {addr:#x} has a length of {len:#x} \
            bytes, which cannot be"
        )));
    }
    Ok(())
}

#[cfg(all(test, not(miri)))]
#[path = "guest_tests.rs"]
mod tests;
