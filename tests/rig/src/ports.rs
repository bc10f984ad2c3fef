//! A guest's queues and memory, as its front-end would announce them.

use std::any::Any;
use std::sync::Arc;

use flowtable::{Ingress, PortId, SourcePolicy};
use guest::options::{Backing, Layout};
use guest::{GuestDriver, Options};
use pmd::control::PortUp;
use pmd::port::vhost::Features;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::QueueSpec;
use pmd::shm::own::OwnRegion;
use pmd::shm::{GuestMemory, RegionSpec};

/// Any address, however many.
pub const ANY: SourcePolicy = SourcePolicy::Learn(u32::MAX);

/// What guests are by default here: memory that can be shared (under Miri, which maps no files, the
/// heap), every check on.
pub fn options() -> Options {
    let backing = if cfg!(miri) {
        Backing::Heap
    } else {
        Backing::Memfd
    };
    Options {
        layout: Layout {
            backing,
            ..Layout::default()
        },
        tx_frame_bytes: 9018,
        ..Options::default()
    }
}

/// Whose frames come in by a port that is in one network, as its first configuration.
pub fn ingress(port: PortId, network: u16, source: SourcePolicy) -> Ingress {
    Ingress {
        port,
        network,
        trunk: None,
        source,
        generation: 1,
    }
}

/// A guest's queues, as its front-end would announce them.
pub fn port_of(guest: &GuestDriver, ingress: Ingress) -> PortUp {
    port_in(&Arc::new(memory_of(guest)), guest, ingress)
}

/// The same in this mapping of its memory.
pub fn port_in(memory: &Arc<GuestMemory>, guest: &GuestDriver, ingress: Ingress) -> PortUp {
    port_with(memory, guest, ingress, |_| ())
}

/// The same; `change` may alter what is announced of each queue.
pub fn port_with(
    memory: &Arc<GuestMemory>,
    guest: &GuestDriver,
    ingress: Ingress,
    mut change: impl FnMut(&mut QueueSpec),
) -> PortUp {
    let features = Features::from_bits(guest.options().features());
    let (mut rxqs, mut txqs) = (Vec::new(), Vec::new());
    for vring in 0..guest.n_vrings() {
        let mut spec = queue_of(guest, vring);
        change(&mut spec);
        if vring % 2 == 0 {
            txqs.push(TxQueue::vhost(memory.clone(), &spec, features).expect("ring"));
        } else {
            rxqs.push(RxQueue::vhost(ingress.port, memory.clone(), &spec, features).expect("ring"));
        }
    }
    PortUp {
        ingress,
        rxqs,
        txqs,
    }
}

/// One of a guest's queues, as its front-end would announce it that polls.
pub fn queue_of(guest: &GuestDriver, vring: usize) -> QueueSpec {
    let at = guest.vring_uva(vring);
    QueueSpec {
        index: vring as u16,
        size: guest.vring_size(vring),
        desc: at.desc,
        avail: at.avail,
        used: at.used,
        base: None,
        call: None,
        kick: None,
        err: None,
        discards: false,
    }
}

/// The guest's regions, mapped as the switch maps them; those on the heap as they are.
pub fn memory_of(guest: &GuestDriver) -> GuestMemory {
    let Some(regions) = regions_of(guest) else {
        return heap_of(guest);
    };
    GuestMemory::new(regions).expect("regions that can be mapped")
}

/// The guest's regions, as its front-end would announce them; none: they are on the heap.
pub fn regions_of(guest: &GuestDriver) -> Option<Vec<RegionSpec>> {
    let file = guest.memory().file()?;
    let regions = guest.memory().regions().iter().map(|region| {
        let spec = region.spec();
        RegionSpec {
            guest_addr: spec.gpa,
            user_addr: spec.uva,
            len: spec.len,
            file_offset: spec.file_offset,
            file: file.try_clone().expect("a file"),
        }
    });
    Some(regions.collect())
}

#[allow(unsafe_code)]
fn heap_of(guest: &GuestDriver) -> GuestMemory {
    let own = |region: &guest::memory::Region| {
        let spec = region.spec();
        OwnRegion {
            guest_addr: spec.gpa,
            user_addr: spec.uva,
            len: spec.len,
            host: region.host(),
        }
    };
    let regions: Vec<_> = guest.memory().regions().iter().map(own).collect();
    let owner: Arc<dyn Any + Send + Sync> = guest.memory().clone();
    // SAFETY: the regions live as long as the guest's memory, which `owner` is, and it makes no
    // reference to their bytes.
    unsafe { GuestMemory::of_this_process(&regions, &owner) }.expect("regions that are apart")
}
