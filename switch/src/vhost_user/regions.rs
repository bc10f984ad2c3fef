//! The memory regions that a front-end shares, as its messages change them.
//!
//! A front-end with several queue pairs may send everything once for each of them. QEMU 7.2 sends
//! `REM_MEM_REG X` and `ADD_MEM_REG Y` for its first pair before it sends both again for the
//! second, and Y may lie where X was. So a region is there or not, whatever the number of messages:
//! the same region again changes nothing, and neither does removing one that is gone. What the
//! front-end never had is refused.

use std::collections::VecDeque;
use std::sync::Arc;

use pmd::shm::{GuestMemory, RegionSpec};

use super::refusal::{Refusal, Result};

/// Where a region lies: guest address, user address, bytes.
pub(crate) type Addresses = (u64, u64, u64);

/// What there may be at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Regions.
    pub(crate) n_regions: usize,
    /// Bytes of all of them together.
    pub(crate) n_bytes: u64,
}

impl Room {
    fn check(self, lens: impl IntoIterator<Item = u64>) -> Result<()> {
        let n_bytes = lens.into_iter().fold(0, u64::saturating_add);
        if n_bytes > self.n_bytes {
            return Err(Refusal::new(format!(
                "memory regions of {n_bytes} bytes together: {} are the most here",
                self.n_bytes
            )));
        }
        Ok(())
    }
}

/// The regions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    /// Kept even without regions: memory that the guest adds later shares the account of pages
    /// restored for it.
    memory: Arc<GuestMemory>,
    /// Regions removed last, as many as there may be at a time.
    gone: VecDeque<Addresses>,
}

impl Regions {
    /// The present memory; none: there is no region.
    pub(crate) fn memory(&self) -> Option<&Arc<GuestMemory>> {
        (self.memory.n_regions() > 0).then_some(&self.memory)
    }

    /// Installs what one of the methods below returned, and returns the old memory, which may take
    /// long to drop. The caller has made sure that it is not in use.
    pub(crate) fn put(&mut self, memory: GuestMemory) -> Arc<GuestMemory> {
        std::mem::replace(&mut self.memory, Arc::new(memory))
    }

    /// The memory with these regions and no others; none: no change.
    pub(crate) fn replace(
        &mut self,
        specs: Vec<RegionSpec>,
        room: Room,
    ) -> Result<Option<GuestMemory>> {
        if specs.len() > room.n_regions {
            return Err(Refusal::new(format!(
                "{} memory regions: {} are the most here",
                specs.len(),
                room.n_regions
            )));
        }
        room.check(specs.iter().map(|spec| spec.len))?;
        let other = self.memory.replaced_by(specs)?;
        Ok((!other.is_same_as(&self.memory)).then_some(other))
    }

    /// The memory with one region more; none: it is there already, of the same file.
    pub(crate) fn add(&mut self, spec: RegionSpec, room: Room) -> Result<Option<GuestMemory>> {
        if self.memory.holds(&spec) {
            return Ok(None);
        }
        if self.memory.n_regions() >= room.n_regions {
            return Err(Refusal::new(format!(
                "a memory region beyond the {} that there may be",
                room.n_regions
            )));
        }
        room.check([self.memory.n_bytes(), spec.len])?;
        Ok(Some(self.memory.with(spec)?))
    }

    /// The memory without a region; none: it was removed before. `n_max`: removed ones to remember.
    pub(crate) fn remove(
        &mut self,
        region: Addresses,
        n_max: usize,
    ) -> Result<Option<GuestMemory>> {
        let (guest_addr, user_addr, len) = region;
        match self.memory.without(guest_addr, user_addr, len) {
            Ok(memory) => {
                self.gone.retain(|gone| *gone != region);
                self.gone.push_back(region);
                self.gone.drain(..self.gone.len().saturating_sub(n_max));
                Ok(Some(memory))
            }
            Err(_) if self.gone.contains(&region) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
