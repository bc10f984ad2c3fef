//! Sizes and numbers: of frames, queues and flow caches.

use config::Topology;
use flowtable::{DropReason, FlowTable};
use guest::Options;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options};

const MTU_MAX: usize = 9000;
const QUEUES_MAX: u16 = 16;
/// Bytes of a frame that its MTU leaves out.
const ETHERNET_LEN: usize = 14;

/// A topology of one VM, with this flow cache, MTU of its network and number of its queues.
fn topology(flows: usize, mtu: usize, queues: u16) -> Option<Topology> {
    let nic = format!("network: blue, queues: {queues}, vhost-user: {{ path: /run/a.sock }}");
    let text = format!(
        "cores: [1]\nflows: {flows}\nnetworks: {{ blue: {{ mtu: {mtu} }} }}\nvms: {{ a: {{ nics: \
        {{ n: {{ {nic} }} }} }} }}\n"
    );
    config::parse(&text, "weir.yaml").ok()
}

/// What the file says of all three; none: it is refused.
fn values(flows: usize, mtu: usize, queues: u16) -> Option<(usize, usize, u16)> {
    let topology = topology(flows, mtu, queues)?;
    let mtu = topology.networks[0].mtu.into();
    Some((topology.flows, mtu, topology.vms[0].nics[0].queues))
}

#[test]
fn frames_of_the_largest_mtu_of_the_file_pass_and_longer_ones_do_not() {
    let at = |mtu| values(1024, mtu, 1).map(|(_, mtu, _)| mtu);
    assert_eq!((at(MTU_MAX), at(MTU_MAX + 1)), (Some(MTU_MAX), None));

    let mut rig = Rig::simple(2, &options());
    let longest = MTU_MAX + ETHERNET_LEN;
    for (id, len) in [(1, longest), (2, longest + 1)] {
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), id, len)));
    }
    rig.settle();
    assert_eq!(rig.receive_ids(1), [1]);
    assert_eq!(rig.drops(0, DropReason::TooBig), 1);
    rig.assert_balanced();
}

#[test]
fn every_queue_that_the_file_allows_is_used() {
    let at = |queues| values(1024, 1500, queues).map(|(_, _, queues)| queues);
    assert_eq!(
        (at(QUEUES_MAX), at(QUEUES_MAX + 1)),
        (Some(QUEUES_MAX), None)
    );

    let mut rig = Rig::new(1, 3, networks(&[&[0, 1, 2]]));
    let many = Options {
        n_queue_pairs: QUEUES_MAX,
        ..options()
    };
    let sender = rig.plug(0, ANY, options());
    // Neighbours by number, one of which must not get what is for a queue of the other.
    let receivers = [(); 2].map(|()| rig.plug(0, ANY, many.clone()));
    rig.introduce([sender, receivers[0], receivers[1]]);
    for id in 0..240 {
        let station = mac(1000 + u16::try_from(id / 2).unwrap());
        let to = mac(receivers[usize::from(id % 2 == 1)]);
        assert!(rig.guests[usize::from(sender)].send(0, &frame(to, station, id, 60)));
    }
    rig.settle();
    for (receiver, parity) in receivers.into_iter().zip(0..) {
        let guest = &mut rig.guests[usize::from(receiver)];
        let mut ids = Vec::new();
        for pair in 0..usize::from(QUEUES_MAX) {
            let n_before = ids.len();
            ids.extend(std::iter::from_fn(|| guest.recv(pair)).map(|frame| id_of(&frame)));
            assert!(
                ids.len() > n_before,
                "queue pair {pair} of {receiver} got nothing"
            );
        }
        ids.sort_unstable();
        assert_eq!(ids, (parity..240).step_by(2).collect::<Vec<u64>>());
    }

    // It sends by all of them, too.
    for pair in 0..usize::from(QUEUES_MAX) {
        let back = frame(mac(sender), mac(receivers[0]), pair as u64, 60);
        assert!(rig.guests[usize::from(receivers[0])].send(pair, &back));
    }
    rig.settle();
    let mut ids = rig.receive_ids(sender);
    ids.sort_unstable();
    assert_eq!(ids, (0..u64::from(QUEUES_MAX)).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn flow_cache_has_room_for_as_many_flows_as_the_file_says() {
    let at = |flows| values(flows, 1500, 1).map(|(flows, _, _)| flows);
    let (least, most) = (1024, 1 << 24);
    for flows in [least, most] {
        assert_eq!(at(flows), Some(flows));
        let table = FlowTable::new(flows, 1, [1, 2]);
        assert_eq!(table.capacity() as usize, flows);
    }
    assert_eq!((at(least - 1), at(most + 1)), (None, None));
}

#[test]
fn there_are_more_ids_than_ports_in_the_file() {
    assert!(config::PORTS_MAX < usize::from(flowtable::PortId::MAX));
    let ports = |n: usize| config::parse(&format!("cores: [1]\nports: {n}\n"), "weir.yaml").ok();
    assert_eq!(
        ports(config::PORTS_MAX).map(|topology| topology.ports),
        Some(config::PORTS_MAX)
    );
    assert_eq!(ports(config::PORTS_MAX + 1), None);
}
