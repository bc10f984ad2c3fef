use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use config::Listens;
use flowtable::{Ingress, SourcePolicy};
use pmd::ring::QueueSpec;
use pmd::shm::GuestMemory;

use super::*;
use crate::plan::ports::{PortKind, PortSpec, SocketSpec};
use crate::vhost_user::cores::{Parked, Raised};

/// Cores that find the port hopeless as soon as something is changed, and count such changes.
#[derive(Clone)]
struct Hopeless {
    port: Arc<Port>,
    n: Arc<AtomicUsize>,
}

impl DataPlane for Hopeless {
    fn up(&mut self, _: &Arc<GuestMemory>, _: u64, _: &[QueueSpec]) -> Raised {
        panic!("no queue was set up")
    }

    fn down(&mut self) -> Vec<Parked> {
        Vec::new()
    }

    fn memory_slots(&self) -> usize {
        8
    }

    fn memory_bytes(&self) -> u64 {
        1 << 40
    }

    fn rest(&mut self) {
        self.n.fetch_add(1, Ordering::Relaxed);
        self.port.link.close("it is hopeless");
    }

    fn forget(&mut self) {}
}

fn port() -> Port {
    let socket = SocketSpec {
        path: "/nowhere".into(),
        listens: Listens::Weir,
        group: None,
        mode: 0,
        n_pairs: 1,
    };
    let ingress = Ingress {
        port: 0,
        network: 0,
        trunk: None,
        source: SourcePolicy::Sticky,
        generation: 1,
    };
    let spec = PortSpec {
        name: "vm/nic".to_owned(),
        vm: None,
        enabled: true,
        networks: vec!["net".to_owned()],
        ingress,
        rules: Vec::new(),
        kind: PortKind::Socket(socket),
    };
    Port::new(&spec).unwrap()
}

/// The end of a socket is not the end of what was sent before: that could still be read.
#[test]
fn connection_that_is_closed_from_here_takes_no_message_that_had_come_before() {
    let (mut front_end, stream) = UnixStream::pair().unwrap();
    // SET_FEATURES, version 1, eight bytes: none.
    let mut message = [0; 20];
    (message[0], message[4], message[8]) = (2, 1, 8);
    for _ in 0..10 {
        front_end.write_all(&message).unwrap();
    }
    let (port, n) = (Arc::new(port()), Arc::default());
    let plane = Hopeless {
        port: port.clone(),
        n: Arc::clone(&n),
    };
    let served = serve(stream, plane, &port, &Stop::new().unwrap(), None);
    assert_eq!(served.end, End::Closed("it is hopeless".to_owned()));
    // The first one, and the end.
    assert_eq!(n.load(Ordering::Relaxed), 2);
}
