//! A guest's memory: the files its front-end shares, mapped, and where in them its addresses lead.
//!
//! An immutable value. Control builds a new one when regions come or go (mappings that stay are
//! shared between the two) and hands it to the cores; the last holder of a mapping unmaps it.

use super::damage::Damage;
use super::fault::Guard;
use super::pager;
use super::presence::Presence;
use super::{Piece, prefetch};
use crate::error::SetupError;
use crate::sys::{self, FileId};
use memmap2::MmapRaw;
use std::any::Any;
use std::fs::File;
use std::sync::Arc;

/// Bytes of a page that a core may make itself: it takes a microsecond or two.
const SMALL_PAGE: u64 = 4096;

/// One region as a front-end announces it.
#[derive(Debug)]
pub struct RegionSpec {
    /// First address as the guest's driver writes it into descriptors.
    pub guest_addr: u64,
    /// First address in the front-end's own process, in which it gives the rings.
    pub user_addr: u64,
    /// Bytes.
    pub len: u64,
    /// Where in the file it begins.
    pub file_offset: u64,
    /// The file: tmpfs, memfd or hugetlbfs.
    pub file: File,
}

/// One region that is this process's own memory: a guest in the same process, as in tests.
#[derive(Clone, Copy, Debug)]
pub struct OwnRegion {
    /// First address as the guest's driver writes it into descriptors.
    pub guest_addr: u64,
    /// First address as the guest names its rings.
    pub user_addr: u64,
    /// Bytes.
    pub len: u64,
    /// Where they are.
    pub host: *mut u8,
}

/// A file's mapped part. Unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    /// None: it is this process's own memory.
    map: Option<MmapRaw>,
    /// Bytes of its file's pages.
    page: usize,
    guard: Option<Guard>,
    /// Of large pages: which of them cores may touch. Small ones cores make themselves.
    presence: Option<Arc<Presence>>,
    /// None: it is no file.
    file: Option<FileId>,
    /// Who keeps the bytes there, if they are no mapping but this process's own memory.
    _owner: Option<Arc<dyn Any + Send + Sync>>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(presence) = &self.presence {
            presence.end();
        }
        let is_left = self.guard.take().is_none_or(Guard::end);
        match self.map.take() {
            // SAFETY: the last region that pointed here is gone, and pieces are not kept longer
            // than their memory.
            Some(map) if is_left => unsafe { sys::unmap(map, self.page) },
            // A handler still acts upon it.
            map => std::mem::forget(map),
        }
    }
}

#[derive(Clone, Debug)]
struct Region {
    guest_addr: u64,
    user_addr: u64,
    len: u64,
    host: *mut u8,
    mapping: Arc<Mapping>,
    /// Where in which file; none: it is this process's own memory.
    source: Option<Source>,
}

/// A place in a file, whatever descriptor leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    device: u64,
    inode: u64,
    offset: u64,
}

// SAFETY: `host` points into `mapping`, which is Send and Sync.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Byte `at` of the region as a place in its mapping, which may begin before it.
    fn in_mapping(&self, at: u64) -> usize {
        let base = self
            .mapping
            .map
            .as_ref()
            .map_or(self.host, MmapRaw::as_mut_ptr);
        (self.host as usize - base as usize)
            .saturating_add(usize::try_from(at).unwrap_or(usize::MAX))
    }

    #[cold]
    fn granted_window(&self, presence: &Presence, addr: u64) -> Option<Window> {
        let skip = self.in_mapping(0) as u64;
        let (from, to) = presence.granted_around(self.in_mapping(addr - self.guest_addr))?;
        // Pages may begin before the region, and end behind it.
        let from = (from as u64).saturating_sub(skip);
        let to = (to as u64 - skip).min(self.len);
        let host = self.host.wrapping_add(usize::try_from(from).ok()?);
        Some(Window {
            guest_addr: self.guest_addr + from,
            len: to - from,
            host,
        })
    }
}

/// Addresses in a row that one translation found, for those that follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    guest_addr: u64,
    len: u64,
    host: *mut u8,
}

// SAFETY: an address, valid as long as the memory it is used with.
unsafe impl Send for Window {}

impl Source {
    fn new(facts: &sys::FileFacts, offset: u64) -> Self {
        Self {
            device: facts.device,
            inode: facts.inode,
            offset,
        }
    }
}

impl Region {
    fn is_at(&self, guest_addr: u64, user_addr: u64, len: u64) -> bool {
        (self.guest_addr, self.user_addr, self.len) == (guest_addr, user_addr, len)
    }
}

impl Window {
    /// Knows nothing yet.
    pub(crate) const EMPTY: Window = Window {
        guest_addr: 0,
        len: 0,
        host: std::ptr::null_mut(),
    };

    /// The bytes at `addr` if all of them are in this window.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the length of a mapping"
    )]
    pub(crate) fn piece(&self, addr: u64, len: u32) -> Option<Piece> {
        let at = addr.wrapping_sub(self.guest_addr);
        if at < self.len && u64::from(len) <= self.len - at {
            // `at` is below the length of a mapping, so it fits.
            return Some(Piece {
                ptr: self.host.wrapping_add(at as usize),
                len,
            });
        }
        None
    }
}

/// All regions of one guest.
#[derive(Debug, Default)]
pub struct GuestMemory {
    /// By guest address.
    regions: Vec<Region>,
    /// Whether some mapping has pages that cores may not touch yet.
    is_paged: bool,
    /// What the guest may have put back of pages that it takes away; values that are made of this
    /// one share it.
    account: Arc<pager::Account>,
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

    /// The same with the pages of all files taken for large ones, which no core makes: so that what
    /// is done about these can be tested where none are reserved.
    ///
    /// # Errors
    /// As [`GuestMemory::new`].
    pub fn of_large_pages(specs: Vec<RegionSpec>) -> Result<Self, SetupError> {
        specs.into_iter().try_fold(Self::default(), |memory, spec| {
            memory.check_apart(spec.guest_addr, spec.user_addr, spec.len)?;
            Ok(memory.insert(map(&spec, &memory.account, true)?))
        })
    }

    /// Regions of this process's own memory: both ends of a ring without a file between them, where
    /// nothing can be mapped.
    ///
    /// # Safety
    /// As long as `owner` is kept, the bytes of every region can be read and written, and nobody
    /// makes a reference to them.
    ///
    /// # Errors
    /// When a region wraps, or overlaps another.
    pub unsafe fn of_this_process(
        regions: &[OwnRegion],
        owner: &Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, SetupError> {
        regions.iter().try_fold(Self::default(), |memory, own| {
            let &OwnRegion {
                guest_addr,
                user_addr,
                len,
                host,
            } = own;
            memory.check_apart(guest_addr, user_addr, len)?;
            let owner = Some(owner.clone());
            let mapping = Arc::new(Mapping {
                map: None,
                page: 0,
                guard: None,
                presence: None,
                file: None,
                _owner: owner,
            });
            Ok(memory.insert(Region {
                guest_addr,
                user_addr,
                len,
                host,
                mapping,
                source: None,
            }))
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
    fn check_apart(&self, guest_addr: u64, user_addr: u64, len: u64) -> Result<(), SetupError> {
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

    fn insert(&self, region: Region) -> Self {
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

    /// The same, for whoever wants to know without keeping the memory.
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

    /// The one copy by itself: `len` bytes at guest address `from` to guest address `to` of another
    /// guest, as a frame's payload goes. False: some of them are not there, or not in one piece.
    /// For measurements.
    pub fn copy_to(&self, from: u64, other: &GuestMemory, to: u64, len: u32) -> bool {
        let window = |memory: &GuestMemory, addr| {
            memory
                .window(addr)
                .and_then(|window| window.piece(addr, len))
        };
        let (Some(source), Some(place)) = (window(self, from), window(other, to)) else {
            return false;
        };
        place.write_piece(source);
        true
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
    /// them are nowhere, or `put` says that it has no room.
    pub(crate) fn pieces(
        &self,
        mut addr: u64,
        mut len: u32,
        mut put: impl FnMut(Piece) -> bool,
    ) -> bool {
        if addr.checked_add(u64::from(len)).is_none() {
            return false;
        }
        while len > 0 {
            let Some(window) = self.window(addr) else {
                return false;
            };
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
    pub(super) fn ring(&self, user_addr: u64, len: u64, align: u64) -> Option<*mut u8> {
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
        unsafe { sys::prefault(host, n_bytes) };
        prefetch(host);
        Some(host)
    }
}

impl GuestMemory {
    /// A ring's place for the ring module; see [`GuestMemory::ring`].
    pub(crate) fn ring_at(&self, user_addr: u64, len: u64, align: u64) -> Option<*mut u8> {
        self.ring(user_addr, len, align)
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

/// Which pages of a mapping of large ones cores may touch: none yet. `None`: nobody can make them.
fn presence(
    file: &File,
    start: u64,
    base: *mut u8,
    len: usize,
    page: u64,
    account: &Arc<pager::Account>,
) -> Option<Arc<Presence>> {
    let (base, page) = (base as usize, usize::try_from(page).ok()?);
    let is_told = sys::userfault::tell_by_signal(base, len);
    let presence = Arc::new(Presence::new(
        file.try_clone().ok()?,
        start,
        base,
        len,
        page,
        is_told,
        account.clone(),
    ));
    pager::attend(&presence).then_some(presence)
}

/// `account`: the guest's. `is_paged`: the pages are large ones, of which cores touch only those
/// that were granted.
fn map(
    spec: &RegionSpec,
    account: &Arc<pager::Account>,
    is_paged: bool,
) -> Result<Region, SetupError> {
    let text = |what: &str| {
        format!(
            "cannot map the front-end's memory region at {:#x}: {what}",
            spec.guest_addr
        )
    };
    let say = |what: &str| SetupError::new(text(what));
    let facts = sys::file_facts(&spec.file).map_err(|e| say(&e.to_string()))?;
    if !facts.is_memory {
        // The one mistake here that another way to start the guest mends.
        return Err(SetupError::memory(text(
            "its file is not memory that can be shared; start the guest with \
            memory-backend-memfd,share=on",
        )));
    }
    let end = spec
        .file_offset
        .checked_add(spec.len)
        .ok_or_else(|| say("its end wraps around"))?;
    if end > facts.len {
        return Err(say("it is longer than its file"));
    }
    // Whole pages, of the file's own size; they end inside the file, since files of huge pages are
    // made of such.
    let start = spec.file_offset / facts.page * facts.page;
    let whole_end = end.div_ceil(facts.page) * facts.page;
    let len = usize::try_from(whole_end - start).map_err(|_| say("it is too long"))?;
    let map = sys::map_shared(&spec.file, start, len).map_err(|e| say(&e.to_string()))?;
    let base = map.as_mut_ptr();
    // Always: a file that is sealed against shrinking may still have no page behind it, as in an
    // empty pool of huge ones.
    let presence = if is_paged {
        presence(&spec.file, start, base, len, facts.page, account)
    } else {
        None
    };
    let is_unserved = is_paged && presence.is_none();
    let guard = Guard::new(base, len, presence.as_ref(), &account.damage);
    let is_guarded = guard.is_some();
    let file = FileId {
        device: facts.device,
        inode: facts.inode,
    };
    let page = usize::try_from(facts.page).unwrap_or(len);
    let mapping = Arc::new(Mapping {
        map: Some(map),
        page,
        guard,
        presence,
        file: Some(file),
        _owner: None,
    });
    if !is_guarded {
        return Err(say("there are too many regions already"));
    }
    // A core that met a page that isn't there would have to make it, or get a signal for it that
    // nobody can answer.
    if is_unserved {
        return Err(say(
            "its pages are large, and the thread that makes them can't be started; allow this \
            process more open files and threads",
        ));
    }
    let skip = usize::try_from(spec.file_offset - start).map_err(|_| say("it is too long"))?;
    Ok(Region {
        guest_addr: spec.guest_addr,
        user_addr: spec.user_addr,
        len: spec.len,
        host: base.wrapping_add(skip),
        mapping,
        source: Some(Source::new(&facts, spec.file_offset)),
    })
}

#[cfg(all(test, not(miri)))]
#[path = "guest_tests.rs"]
mod tests;
