//! Ports that are no guests': queues of devices whose kernel's half is in memory, and plain memory.

use flowtable::{Ingress, PortId, SourcePolicy};
use pmd::control::PortUp;
use pmd::port::afxdp::{AfXdpQueue, XskMode, XskOptions};
use pmd::port::mem::MemPort;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::xsk::peer::XskPeer;
use pmd::sys::bpf::Attach;

use crate::Rig;

impl Rig {
    /// Queues of any kind as a port, with any address; `network: None`: it is a trunk, the first
    /// there is.
    pub fn plug_queues(
        &mut self,
        port: PortId,
        network: Option<u16>,
        rxqs: Vec<RxQueue>,
        txqs: Vec<TxQueue>,
    ) {
        let trunk = network.is_none().then_some(0);
        let (network, source) = (network.unwrap_or(u16::MAX), SourcePolicy::Any(u32::MAX));
        self.cores.up(PortUp {
            ingress: Ingress {
                port,
                network,
                trunk,
                source,
                generation: 1,
            },
            rxqs,
            txqs,
        });
        self.step();
    }

    /// A port in memory, such as a wire.
    pub fn plug_mem(&mut self, port: PortId, network: Option<u16>, ends: &MemPort) {
        self.plug_queues(
            port,
            network,
            vec![RxQueue::mem(port, ends)],
            vec![TxQueue::mem(ends)],
        );
    }

    /// A device with one queue of so many frames, for what is received and for what is sent. Gives
    /// its kernel's half.
    pub fn plug_device(
        &mut self,
        port: PortId,
        network: Option<u16>,
        is_veth: bool,
        [n_rx, n_tx]: [u32; 2],
    ) -> XskPeer {
        let options = XskOptions {
            device: "up0".into(),
            queue: 0,
            mode: XskMode::Copy,
            attach: Attach::Native,
            is_veth,
            n_rx,
            n_tx,
        };
        let (AfXdpQueue { rx, tx, .. }, peer) = AfXdpQueue::in_memory(&options);
        self.plug_queues(
            port,
            network,
            vec![RxQueue::afxdp(port, rx)],
            vec![TxQueue::afxdp(tx)],
        );
        peer
    }
}
