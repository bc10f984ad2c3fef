//! What a front-end has set up, and which queues may run.
//!
//! Every change of what a running queue depends on happens between [`DataPlane::down`] and
//! [`DataPlane::up`]; a refused message changes nothing. Old memory is unmapped once no core uses
//! it and the queues run again, by the control thread that owns this value.

use std::fs::File;
use std::sync::Arc;

use pmd::port::vhost::FEATURES;
use pmd::shm::{GuestMemory, RegionSpec};

use super::cores::{DataPlane, Parked};
use super::queue::{Kick, Queue, Rings, eventfd, is_sent_by, spec};
use super::refusal::{Refusal, Result};
use super::regions::{Regions, Room};
use super::view::{DeviceView, QueueState, QueueView};

/// Feature bit: the front-end supports protocol features.
pub(crate) const F_PROTOCOL_FEATURES: u64 = 1 << 30;
/// Feature bit: several queue pairs.
const F_MQ: u64 = 1 << 22;
/// Entries of the longest split ring.
const RING_MAX: u32 = 32_768;

/// A front-end's device.
#[derive(Debug)]
pub(crate) struct Device<P: DataPlane> {
    plane: P,
    offered: u64,
    features: Option<u64>,
    protocol: u64,
    offered_protocol: u64,
    regions: Regions,
    /// The memory before that, until it is taken.
    old_memory: Option<Arc<GuestMemory>>,
    queues: Vec<Queue>,
    /// Queues that the cores poll, a bit each.
    live: u32,
    /// How often queues were taken from the cores or memory was replaced, since
    /// [`Device::take_changes`].
    n_changes: u64,
    /// Log lines since [`Device::take_notes`].
    notes: Vec<String>,
}

impl<P: DataPlane> Device<P> {
    /// A device without anything set up, with `n_pairs` queue pairs, at most 16.
    pub(crate) fn new(plane: P, n_pairs: u16, offered_protocol: u64) -> Self {
        let n_pairs = n_pairs.clamp(1, 16);
        Self {
            plane,
            offered: if n_pairs > 1 {
                FEATURES
            } else {
                FEATURES & !F_MQ
            },
            features: None,
            protocol: 0,
            offered_protocol,
            regions: Regions::default(),
            old_memory: None,
            queues: vec![Queue::default(); usize::from(n_pairs) * 2],
            live: 0,
            n_changes: 0,
            notes: Vec::new(),
        }
    }

    /// Feature bits offered.
    pub(crate) fn offered(&self) -> u64 {
        self.offered
    }

    /// Protocol feature bits negotiated.
    pub(crate) fn protocol(&self) -> u64 {
        self.protocol
    }

    /// Queue pairs of the port.
    pub(crate) fn n_pairs(&self) -> u64 {
        self.queues.len() as u64 / 2
    }

    /// Sets the features that the guest's driver chose.
    pub(crate) fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered != 0 {
            return Err(Refusal::new(format!(
                "features {:#x} were not offered",
                features & !self.offered
            )));
        }
        // A header's length must not change under a ring that is in use.
        if self.live != 0 && self.features != Some(features) {
            return Err(Refusal::new("features cannot change while queues run"));
        }
        self.features = Some(features);
        self.settle(None)
    }

    /// Sets the protocol features that the front-end chose.
    pub(crate) fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered_protocol != 0 {
            let beyond = features & !self.offered_protocol;
            return Err(Refusal::new(format!(
                "protocol features {beyond:#x} were not offered"
            )));
        }
        self.protocol = features;
        Ok(())
    }

    /// Replaces all memory.
    pub(crate) fn set_memory(&mut self, regions: Vec<RegionSpec>) -> Result<()> {
        let memory = self.regions.replace(regions, self.room())?;
        self.swap_memory(memory)
    }

    /// Memory regions that the front-end may have at a time.
    pub(crate) fn memory_slots(&self) -> usize {
        self.plane.memory_slots()
    }

    fn room(&self) -> Room {
        Room {
            n_regions: self.plane.memory_slots(),
            n_bytes: self.plane.memory_bytes(),
        }
    }

    /// Adds a region to the memory.
    pub(crate) fn add_region(&mut self, region: RegionSpec) -> Result<()> {
        let memory = self.regions.add(region, self.room())?;
        self.swap_memory(memory)
    }

    /// Removes a region from the memory.
    pub(crate) fn remove_region(
        &mut self,
        guest_addr: u64,
        user_addr: u64,
        len: u64,
    ) -> Result<()> {
        let memory = self
            .regions
            .remove((guest_addr, user_addr, len), self.memory_slots())?;
        self.swap_memory(memory)
    }

    /// `size`: entries of the ring, a power of two up to [`RING_MAX`].
    pub(crate) fn set_size(&mut self, index: u32, size: u32) -> Result<()> {
        match u16::try_from(size) {
            Ok(fits) if size.is_power_of_two() && size <= RING_MAX => {
                self.change(index, |queue| queue.size = Some(fits))
            }
            _ => Err(Refusal::new(format!(
                "queue {index}: a ring of {size}, not a power of two up to {RING_MAX}"
            ))),
        }
    }

    /// `rings`: aligned to 16, 2 and 4 bytes, as VIRTIO requires.
    pub(crate) fn set_rings(&mut self, index: u32, rings: Rings) -> Result<()> {
        if !rings.desc.is_multiple_of(16)
            || !rings.avail.is_multiple_of(2)
            || !rings.used.is_multiple_of(4)
        {
            return Err(Refusal::new(format!(
                "queue {index}: a ring's address is not aligned"
            )));
        }
        self.change(index, |queue| queue.rings = Some(rings))
    }

    /// `base`: the position at which the ring begins, unless its used index says otherwise.
    pub(crate) fn set_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base)
            .map_err(|_| Refusal::new(format!("queue {index}: a base of {base}")))?;
        self.change(index, |queue| queue.base = Some(base))
    }

    /// Stops a queue; returns its position.
    pub(crate) fn stop_queue(&mut self, index: u32) -> Result<u16> {
        self.change(index, |queue| {
            (queue.kick, queue.discards) = (Kick::Missing, false)
        })?;
        Ok(self.queue(index)?.base.unwrap_or(0))
    }

    /// Sets the kick eventfd; none: the ring is polled. Starts the queue.
    pub(crate) fn set_kick(&mut self, index: u32, file: Option<File>) -> Result<()> {
        let kick = eventfd(file)?.map_or(Kick::Polled, Kick::File);
        self.change(index, |queue| queue.kick = kick)
    }

    /// Sets the call eventfd; none: the guest polls.
    pub(crate) fn set_call(&mut self, index: u32, file: Option<File>) -> Result<()> {
        let call = eventfd(file)?;
        self.change_slightly(index, |queue| queue.call = call)
    }

    /// Sets the eventfd for errors, if any.
    pub(crate) fn set_err(&mut self, index: u32, file: Option<File>) -> Result<()> {
        let err = eventfd(file)?;
        self.change_slightly(index, |queue| queue.err = err)
    }

    /// Enables or disables a queue.
    pub(crate) fn set_enabled(&mut self, index: u32, is_enabled: bool) -> Result<()> {
        if self.queue(index)?.is_enabled == is_enabled {
            return Ok(());
        }
        self.change(index, |queue| {
            queue.is_enabled = is_enabled;
            queue.discards = !is_enabled && is_sent_by(index);
        })
    }

    /// Disables all queues: today's meaning of RESET_OWNER.
    pub(crate) fn disable_all(&mut self) {
        self.park();
        for queue in &mut self.queues {
            (queue.is_enabled, queue.discards) = (false, false);
            queue.kick = Kick::Missing;
        }
        self.rest_if_stopped();
    }

    /// Resets everything but the memory.
    pub(crate) fn reset(&mut self) {
        self.park();
        self.queues.fill(Queue::default());
        self.features = None;
        self.rest_if_stopped();
    }

    /// The front-end is gone: drops queues, files and memory, and removes the addresses learned
    /// from the guest, but not its own one.
    pub(crate) fn close(&mut self) {
        self.reset();
        self.regions = Regions::default();
        self.old_memory = None;
        self.protocol = 0;
        self.plane.forget();
    }

    /// Whether frames pass by any queue.
    pub(crate) fn runs(&self) -> bool {
        (0..)
            .zip(&self.queues)
            .any(|(index, queue)| self.live & 1 << index != 0 && !queue.discards)
    }

    /// How often queues were taken from the cores or memory was replaced, since the last call.
    pub(crate) fn take_changes(&mut self) -> u64 {
        std::mem::take(&mut self.n_changes)
    }

    /// The memory that was replaced last, which nobody uses any more. Its mappings end with this,
    /// and that may take seconds.
    pub(crate) fn take_old_memory(&mut self) -> Option<Arc<GuestMemory>> {
        self.old_memory.take()
    }

    /// Log lines since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The memory that the front-end shares.
    pub(crate) fn memory(&self) -> Option<&Arc<GuestMemory>> {
        self.regions.memory()
    }

    /// A snapshot for reports.
    pub(crate) fn view(&self) -> DeviceView {
        let queue = |(index, queue): (usize, &Queue)| QueueView {
            index,
            size: queue.size,
            state: self.queue_state(index, queue),
            has_kick: matches!(queue.kick, Kick::File(_)),
            has_call: queue.call.is_some(),
        };
        DeviceView {
            features: self.features,
            protocol: self.protocol,
            n_regions: self.memory().map_or(0, |memory| memory.n_regions()),
            memory_bytes: self.memory().map_or(0, |memory| memory.n_bytes()),
            queues: self.queues.iter().enumerate().map(queue).collect(),
        }
    }

    fn queue_state(&self, index: usize, queue: &Queue) -> QueueState {
        let broken = queue
            .broken
            .clone()
            .or_else(|| queue.stopped.map(|fault| fault.sentence().to_owned()));
        match (broken, &queue.kick) {
            _ if self.live & 1 << index != 0 && queue.discards => QueueState::Discards,
            _ if self.live & 1 << index != 0 => QueueState::Runs,
            (Some(why), _) => QueueState::Broken(why),
            (None, Kick::Missing) => QueueState::Stopped,
            (None, _) if !self.is_enabled(queue) => QueueState::Disabled,
            (None, _) => QueueState::Stopped,
        }
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        let n = self.queues.len();
        let queue = usize::try_from(index)
            .ok()
            .and_then(|index| self.queues.get_mut(index));
        queue.ok_or_else(|| Refusal::new(format!("queue {index} does not exist: there are {n}")))
    }

    /// Changes a queue, and clears the fault that stopped it.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Queue)) -> Result<()> {
        self.change_slightly(index, |queue| {
            queue.stopped = None;
            change(queue);
        })
    }

    /// Changes one queue, off the cores if it runs, and then runs what is ready.
    fn change_slightly(&mut self, index: u32, change: impl FnOnce(&mut Queue)) -> Result<()> {
        self.queue(index)?;
        if self.live & 1 << index != 0 {
            self.park();
        }
        let queue = self.queue(index)?;
        queue.broken = None;
        change(queue);
        self.settle(Some(index))
    }

    /// On return the new memory is in use, and the old one is not. None: no change.
    fn swap_memory(&mut self, memory: Option<GuestMemory>) -> Result<()> {
        let Some(memory) = memory else { return Ok(()) };
        self.n_changes += 1;
        self.park();
        self.old_memory = Some(self.regions.put(memory));
        self.queues.iter_mut().for_each(|queue| queue.broken = None);
        self.settle(None)
    }

    /// Takes all queues from the cores; each keeps its position.
    fn park(&mut self) {
        if self.live == 0 {
            return;
        }
        self.n_changes += 1;
        for Parked { index, base, fault } in self.plane.down() {
            if let Ok(queue) = self.queue(u32::from(index)) {
                queue.base = Some(base);
                queue.stopped = fault;
            }
        }
        self.live = 0;
    }

    /// Hands the ready queues to the cores, if these are not the ones there. `asked`: the queue
    /// that the message is about; its failure is returned, another queue's marks that queue as
    /// broken.
    fn settle(&mut self, asked: Option<u32>) -> Result<()> {
        self.rest_if_stopped();
        let ready = self.ready();
        if ready == self.live {
            return Ok(());
        }
        self.park();
        let Some(memory) = self.memory().cloned() else {
            return Ok(());
        };
        let specs: Vec<_> = (0..)
            .zip(&self.queues)
            .filter_map(|(index, queue)| spec(ready, index, queue))
            .collect();
        if specs.is_empty() {
            return Ok(());
        }
        self.live = ready;
        let mut result = Ok(());
        let raised = self.plane.up(&memory, self.features.unwrap_or(0), &specs);
        for (index, base) in raised.elsewhere {
            self.note_base(index, base);
        }
        for (index, error) in raised.failed {
            self.live &= !(1 << index);
            if let Ok(queue) = self.queue(u32::from(index)) {
                queue.broken = Some(error.to_string());
            }
            if asked == Some(u32::from(index)) {
                result = Err(error.into());
            }
        }
        result
    }

    /// A guest takes frames while any of its receive rings is started, even if disabled or broken.
    fn rest_if_stopped(&mut self) {
        if self
            .queues
            .iter()
            .step_by(2)
            .all(|queue| matches!(queue.kick, Kick::Missing))
        {
            self.plane.rest();
        }
    }

    /// After a crash of the daemon the front-end may not know a queue's position; its used index is
    /// right.
    fn note_base(&mut self, index: u16, base: u16) {
        if let Ok(queue) = self.queue(u32::from(index)) {
            let said = queue.base.replace(base).unwrap_or(base);
            self.notes.push(format!(
                "queue {index} resumes at its used index {base}, not at {said} as the front-end \
                says"
            ));
        }
    }

    /// Queues that are completely set up, a bit each.
    fn ready(&self) -> u32 {
        if self.memory().is_none() || self.features.is_none() {
            return 0;
        }
        let is_ready = |queue: &Queue| {
            let has_rings = queue.size.is_some() && queue.rings.is_some();
            let is_started =
                !matches!(queue.kick, Kick::Missing) && (self.is_enabled(queue) || queue.discards);
            has_rings && is_started && queue.broken.is_none() && queue.stopped.is_none()
        };
        (0..)
            .zip(&self.queues)
            .filter(|(_, queue)| is_ready(queue))
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Without protocol features, a queue is enabled by its kick.
    fn is_enabled(&self, queue: &Queue) -> bool {
        queue.is_enabled
            || self
                .features
                .is_some_and(|features| features & F_PROTOCOL_FEATURES == 0)
    }
}

#[cfg(test)]
#[path = "device_tests/mod.rs"]
mod tests;
