//! Values of every shape, for tests and for the examples in `docs/api.md`.

use super::core::{CoreReport, Load};
use super::counters::{CounterReport, DropReport, RateReport};
use super::device::{DeviceReport, LostReport, XdpMode, XdpReport};
use super::flows::{FlowReport, PortFlows};
use super::mac::{MacKind, MacReport};
use super::network::NetworkReport;
use super::port::{
    AddressReport, ConnectionReport, Listens, PortKind, PortReport, PortRow, QueueReport,
};
use super::queue::{Load as QueueLoad, RxQueueReport};
use super::state::{Direction, RingState, State};
use super::version::VersionReport;
use super::vm::{LimitReport, LimitsReport, VmReport};

pub(crate) fn version() -> VersionReport {
    VersionReport {
        program: "weir".to_owned(),
        version: "0.1.0".to_owned(),
        api: 1,
        pid: 4711,
        started_at: "2026-03-01T09:30:00Z".to_owned(),
        uptime_seconds: 86_400,
    }
}

fn rates() -> RateReport {
    RateReport {
        rx_frames_per_second: 80_000.0,
        rx_bits_per_second: 968_960_000.0,
        tx_frames_per_second: 41_250.5,
        tx_bits_per_second: 21_780_264.0,
    }
}

fn counters() -> CounterReport {
    CounterReport {
        rx_frames: 1_200_003,
        rx_bytes: 1_816_800_126,
        tx_frames: 618_750,
        tx_bytes: 40_837_500,
        copied_frames: 2,
        forwarded_frames: 1_199_998,
        dropped_frames: 7,
        missed_frames: 12,
        missed_denied_frames: 12,
        missed_limit_frames: 0,
        queued_frames: 0,
        held_frames: 0,
        held_turns: 318,
        faults: 0,
    }
}

fn drops() -> Vec<DropReport> {
    let reason = flowtable::DropReason::ALL
        .iter()
        .find(|reason| reason.text() == "receiver-full");
    let reason = reason.expect("a reason of that name");
    vec![DropReport {
        reason: reason.text().to_owned(),
        frames: 7,
        sentence: reason.sentence().to_owned(),
    }]
}

pub(crate) fn vm(name: &str) -> VmReport {
    VmReport {
        name: name.to_owned(),
        labels: [("owner".to_owned(), "shop".to_owned())].into(),
        nics_up: 1,
        nics_total: 1,
        rates: rates(),
        at_nanoseconds: 86_400_000_000_000,
        counters: counters(),
        lost_frames: 0,
        drops: drops(),
        limit: LimitsReport {
            from_vm: Some(LimitReport {
                bits_per_second: Some(1_000_000_000),
                burst_bytes: Some(500_000),
                allowance_bytes: Some(-1514),
                ..LimitReport::default()
            }),
            to_vm: None,
        },
        throttled_nanoseconds: 2_430_000_000,
        throttled_ratio: 0.031,
    }
}

pub(crate) fn row() -> PortRow {
    PortRow {
        name: "web/net0".to_owned(),
        kind: PortKind::VhostUser,
        vm: Some("web".to_owned()),
        nic: Some("net0".to_owned()),
        networks: vec!["blue".to_owned()],
        state: State::Up,
        sentence: None,
        rates: rates(),
        at_nanoseconds: 86_400_000_000_000,
        counters: counters(),
    }
}

pub(crate) fn waiting_row() -> PortRow {
    PortRow {
        name: "db/net0".to_owned(),
        vm: Some("db".to_owned()),
        state: State::Waiting,
        sentence: Some("waiting for guest".to_owned()),
        rates: RateReport::default(),
        counters: CounterReport::default(),
        ..row()
    }
}

pub(crate) fn nic() -> PortReport {
    let queue = |index, direction| QueueReport {
        index,
        direction,
        size: Some(1024),
        state: RingState::Runs,
        sentence: None,
        has_kick: true,
        has_call: true,
    };
    PortReport {
        row: row(),
        drops: drops(),
        addresses: AddressReport {
            own: Some("52:54:00:00:00:01".to_owned()),
            known: 1,
            ..AddressReport::default()
        },
        rules: vec!["deny to-vm tcp port 25".to_owned()],
        connection: Some(ConnectionReport {
            path: "/run/weir/web-net0.sock".to_owned(),
            listens: Listens::Weir,
            connections: 1,
            refused_connections: 0,
            queue_pairs: 1,
            features: Some("0x130310000".to_owned()),
            protocol_features: "0x9a0f".to_owned(),
            memory_regions: 2,
            memory_bytes: 1 << 30,
            last_refusal: None,
            last_closed_for: None,
            last_left: None,
        }),
        device: None,
        remarks: Vec::new(),
        queues: vec![queue(0, Direction::Tx), queue(1, Direction::Rx)],
    }
}

pub(crate) fn uplink() -> PortReport {
    PortReport {
        row: PortRow {
            name: "up0".to_owned(),
            kind: PortKind::Uplink,
            vm: None,
            nic: None,
            ..row()
        },
        drops: drops(),
        addresses: AddressReport {
            known: 40,
            ..AddressReport::default()
        },
        rules: Vec::new(),
        connection: None,
        device: Some(DeviceReport {
            name: "eth1".to_owned(),
            driver: Some("ice".to_owned()),
            xdp: Some(XdpReport {
                mode: XdpMode::Native,
                zero_copy: true,
                queues: 2,
            }),
            mtu_bytes: 1500,
            has_carrier: true,
            attached_times: 1,
            lost: Some(LostReport::default()),
        }),
        remarks: Vec::new(),
        queues: Vec::new(),
    }
}

pub(crate) fn network() -> NetworkReport {
    NetworkReport {
        name: "blue".to_owned(),
        uplink: Some("up0".to_owned()),
        vlan: Some(100),
        mtu_bytes: 1500,
        nics_up: 1,
        nics_total: 2,
    }
}

pub(crate) fn mac() -> MacReport {
    MacReport {
        mac: "52:54:00:00:00:01".to_owned(),
        network: "blue".to_owned(),
        port: "web/net0".to_owned(),
        kind: MacKind::Static,
        idle_seconds: None,
        conflict: None,
        sentence: None,
    }
}

pub(crate) fn flows() -> FlowReport {
    FlowReport {
        capacity: 1_048_576,
        used: 6,
        quota: 262_144,
        by_port: vec![PortFlows {
            port: "web/net0".to_owned(),
            flows: 6,
        }],
        core_cache_hits: 1_818_700,
        table_hits: 40,
        misses: 13,
        inserted: 6,
        updated: 7,
        ..FlowReport::default()
    }
}

pub(crate) fn core() -> CoreReport {
    CoreReport {
        cpu: 2,
        rx_queues: 2,
        turns: 90_412_377,
        busy_cycles: 130_940_216,
        held_cycles: 0,
        rx_frames: 1_818_753,
        bursts: 227_344,
        sleeps: 412,
        cpu_nanoseconds: 61_200_000_000,
        load: Load {
            cpu_ratio: 0.25,
            busy_ratio: 0.125,
            frames_per_second: 121_250.5,
            nanoseconds_per_frame: 31.5,
        },
        is_gone: false,
    }
}

pub(crate) fn rx_queue() -> RxQueueReport {
    RxQueueReport {
        port: "web/net0".to_owned(),
        kind: PortKind::VhostUser,
        index: 1,
        cpu: Some(2),
        is_moving: false,
        busy_cycles: 130_012_116,
        rx_frames: 1_818_753,
        load: QueueLoad {
            busy_ratio: 0.125,
            frames_per_second: 121_250.0,
            nanoseconds_per_frame: 1031.0,
        },
    }
}

#[test]
fn client_reads_what_the_server_writes() {
    fn check<T>(value: &T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
        assert!(!text.contains("null"), "{text}");
        // A key that a newer daemon adds is no mistake.
        let newer = text.replacen('{', r#"{"a_newer_key":{"b":[1]},"#, 1);
        assert_eq!(
            &serde_json::from_str::<T>(&newer).unwrap(),
            value,
            "{newer}"
        );
    }
    check(&version());
    check(&vm("web"));
    check(&waiting_row());
    check(&nic());
    check(&uplink());
    check(&network());
    check(&mac());
    check(&flows());
    check(&core());
    check(&rx_queue());
}
