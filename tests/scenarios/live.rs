//! Ports, networks and limits that come, go and change while frames flow.

mod limits;
mod networks;
mod reuse;

use flowtable::{Ingress, Networks, PortId, SourcePolicy};
use pmd::control::PortUp;
use pmd::port::mem::MemPort;
use pmd::port::{RxQueue, TxQueue};
use rig::Rig;

/// A port in memory comes up, which was added before.
fn raise(rig: &mut Rig, port: PortId, ends: &MemPort) {
    rig.cores.up(PortUp {
        ingress: rig::ingress(port, 0, SourcePolicy::Sticky),
        rxqs: vec![RxQueue::mem(port, ends)],
        txqs: vec![TxQueue::mem(ends)],
    });
}

/// A port comes to be, and up.
fn add(rig: &mut Rig, ingress: Ingress, ends: &MemPort) {
    rig.cores.add_port(&ingress).expect("room for a port");
    raise(rig, ingress.port, ends);
}

/// A port that is down goes for good.
fn remove(rig: &mut Rig, port: PortId, mut meanwhile: impl FnMut(&mut Rig)) {
    let removal = rig.cores.start_remove_port(port);
    for _ in 0..1000 {
        if rig.cores.try_finish_remove(&removal) {
            return;
        }
        meanwhile(rig);
        rig.step();
    }
    panic!("port {port} was not removed");
}

/// The networks with these members.
fn with_members(members: &[Vec<PortId>]) -> std::sync::Arc<Networks> {
    let members: Vec<&[PortId]> = members.iter().map(Vec::as_slice).collect();
    rig::networks(&members)
}
