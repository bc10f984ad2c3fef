//! A front-end's connection without a daemon, for the fuzz targets: everything from the socket to
//! the queues that would be handed to the cores, in the calling thread. The same for operators'
//! requests is in `requests`.

mod requests;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use config::Listens;
use flowtable::{Ingress, SourcePolicy};
use pmd::port::vhost::Features;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::QueueSpec;
use pmd::shm::GuestMemory;

use crate::base::lock::lock;
use crate::base::stop::Stop;
use crate::plan::ports::{PortKind, PortSpec, SocketSpec};
use crate::vhost_user::connection;
use crate::vhost_user::cores::{DataPlane, Parked, Raised};
use crate::vhost_user::end::End;
use crate::vhost_user::port::Port;

pub use requests::{converse, request};

/// Serves a front-end that has sent everything and shut down its side. Panics if the daemon would
/// have broken an invariant: queues come up only on a port that is down and in present memory, and
/// nothing is left at the end.
pub fn serve(stream: UnixStream, n_pairs: u16) {
    let cores = Cores::default();
    let ingress = Ingress {
        port: 0,
        network: 0,
        trunk: None,
        source: SourcePolicy::Sticky,
        generation: 1,
    };
    let socket = SocketSpec {
        path: PathBuf::from("/nowhere"),
        listens: Listens::Weir,
        group: None,
        mode: 0,
        n_pairs,
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
    let port = Port::new(&spec).expect("a port with a socket");
    let stop = Stop::new().expect("an eventfd");
    let end = connection::serve(stream, cores.clone(), &port, &stop, None).end;
    assert_ne!(end, End::Stopping, "nobody asked for that");
    let view = port.link.view();
    assert!(!view.is_connected && view.n_connects == 1);
    let all = lock(&cores.0);
    assert!(all.is_empty(), "queues are left");
    assert_eq!(all.n_forgotten, 1, "the guest is forgotten once");
    assert!(
        all.memories.iter().all(|memory| memory.strong_count() == 0),
        "memory is left"
    );
}

/// Polling cores that hold queues and do not poll.
#[derive(Clone, Debug, Default)]
struct Cores(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    rxqs: Vec<RxQueue>,
    txqs: Vec<TxQueue>,
    memories: Vec<Weak<GuestMemory>>,
    n_forgotten: usize,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.rxqs.is_empty() && self.txqs.is_empty()
    }
}

impl DataPlane for Cores {
    fn up(&mut self, memory: &Arc<GuestMemory>, features: u64, queues: &[QueueSpec]) -> Raised {
        let mut held = lock(&self.0);
        assert!(
            held.is_empty() && !queues.is_empty(),
            "up, and not down before"
        );
        assert!(
            queues.is_sorted_by(|a, b| a.index < b.index),
            "a queue twice"
        );
        held.memories.push(Arc::downgrade(memory));
        let features = Features::from_bits(features);
        let mut raised = Raised::default();
        for spec in queues {
            let built = if spec.index % 2 == 1 {
                RxQueue::vhost(0, memory.clone(), spec, features)
                    .map(|queue| (queue.base(), held.rxqs.push(queue)).0)
            } else {
                TxQueue::vhost(memory.clone(), spec, features)
                    .map(|queue| (queue.base(), held.txqs.push(queue)).0)
            };
            match built {
                Ok(base) if spec.base.is_some_and(|said| said != base) => {
                    raised.elsewhere.push((spec.index, base));
                }
                Ok(_) => {}
                Err(error) => raised.failed.push((spec.index, error)),
            }
        }
        raised
    }

    fn down(&mut self) -> Vec<Parked> {
        let mut held = lock(&self.0);
        let parked = |index, base| Parked {
            index,
            base,
            fault: None,
        };
        let rx = held
            .rxqs
            .iter()
            .map(|queue| parked(queue.index(), queue.base()));
        let tx = held
            .txqs
            .iter()
            .map(|queue| parked(queue.index(), queue.base()));
        let all = rx.chain(tx).collect();
        held.rxqs.clear();
        held.txqs.clear();
        all
    }

    fn memory_slots(&self) -> usize {
        256
    }

    fn memory_bytes(&self) -> u64 {
        1 << 40
    }

    fn rest(&mut self) {
        let is_resting = lock(&self.0).txqs.is_empty();
        assert!(is_resting, "a receive ring runs in a port at rest");
    }

    fn forget(&mut self) {
        lock(&self.0).n_forgotten += 1;
    }
}
