//! Receive queues and the cores that poll them, as operators see them.

use flowtable::PortId;
use hashbrown::HashMap;

use super::ports::{kind, places};
use super::sources::Sources;
use crate::api::queue::RxQueueReport;
use crate::plan::ports::CurrentSpec;

/// Every receive queue of ports that are up, by port in the topology's order, and number.
pub(crate) fn queues(sources: &Sources) -> Vec<RxQueueReport> {
    let present = sources.present();
    let guests = present.ports.iter().map(|port| &port.spec);
    let specs = guests.chain(present.devices.iter().map(|port| &port.spec));
    let specs = specs.map(CurrentSpec::get);
    let specs: HashMap<PortId, _> = specs.map(|spec| (spec.id(), spec)).collect();
    let reports = sources.cores.queues().into_iter().filter_map(|queue| {
        let spec = specs.get(&queue.port)?;
        Some(RxQueueReport {
            port: spec.name.clone(),
            kind: kind(spec),
            index: queue.queue,
            cpu: present.cores.cpu_of(queue.core),
            is_moving: queue.is_moving,
            busy_cycles: queue.busy_cycles,
            rx_frames: queue.rx_frames,
            load: sources.queue_loads.of(&queue),
        })
    });
    let mut reports: Vec<_> = reports.collect();
    let places = places(&present);
    let place = |name: &str| places.get(name).copied().unwrap_or(usize::MAX);
    reports.sort_by_key(|queue| (place(&queue.port), queue.index));
    reports
}
