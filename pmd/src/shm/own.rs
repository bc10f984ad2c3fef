//! Guests' memory for tests: of this process itself, or with pages taken for large ones.

use std::any::Any;
use std::sync::Arc;

use super::guest::GuestMemory;
use super::region::{Mapping, Region, RegionSpec, map};
use crate::error::SetupError;

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

impl GuestMemory {
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
}
