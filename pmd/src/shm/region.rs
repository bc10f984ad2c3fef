//! One region of a guest's memory, mapped from its file.

use std::any::Any;
use std::fs::File;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::fault::Guard;
use super::pager;
use super::presence::{Account, Presence};
use super::window::Window;
use crate::error::SetupError;
use crate::sys::{self, FileId};

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

/// A file's mapped part. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    /// None: it is this process's own memory.
    pub(super) map: Option<MmapRaw>,
    /// Bytes of its file's pages.
    pub(super) page: usize,
    pub(super) guard: Option<Guard>,
    /// Of large pages: which of them cores may touch. Small ones cores make themselves.
    pub(super) presence: Option<Arc<Presence>>,
    /// None: it is no file.
    pub(super) file: Option<FileId>,
    /// Keeps the bytes there, if they are no mapping but this process's own memory.
    pub(super) _owner: Option<Arc<dyn Any + Send + Sync>>,
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
pub(super) struct Region {
    pub(super) guest_addr: u64,
    pub(super) user_addr: u64,
    pub(super) len: u64,
    pub(super) host: *mut u8,
    pub(super) mapping: Arc<Mapping>,
    /// Where in which file; none: it is this process's own memory.
    pub(super) source: Option<Source>,
}

/// A place in a file, whatever descriptor leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) offset: u64,
}

// SAFETY: `host` points into `mapping`, which is Send and Sync.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Byte `at` of the region as a place in its mapping, which may begin before it.
    pub(super) fn in_mapping(&self, at: u64) -> usize {
        let base = self
            .mapping
            .map
            .as_ref()
            .map_or(self.host, MmapRaw::as_mut_ptr);
        (self.host as usize - base as usize)
            .saturating_add(usize::try_from(at).unwrap_or(usize::MAX))
    }

    #[cold]
    pub(super) fn granted_window(&self, presence: &Presence, addr: u64) -> Option<Window> {
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

impl Source {
    pub(super) fn new(facts: &sys::FileFacts, offset: u64) -> Self {
        Self {
            device: facts.device,
            inode: facts.inode,
            offset,
        }
    }
}

impl Region {
    pub(super) fn is_at(&self, guest_addr: u64, user_addr: u64, len: u64) -> bool {
        (self.guest_addr, self.user_addr, self.len) == (guest_addr, user_addr, len)
    }
}

/// Which pages of a mapping of large ones cores may touch: none yet. `None`: no thread can make
/// them.
fn presence(
    file: &File,
    start: u64,
    base: *mut u8,
    len: usize,
    page: u64,
    account: &Arc<Account>,
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
    pager::register(&presence).then_some(presence)
}

/// Maps a region. `account`: the guest's. `is_paged`: the pages are large ones, of which cores
/// touch only those that were granted.
pub(super) fn map(
    spec: &RegionSpec,
    account: &Arc<Account>,
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
