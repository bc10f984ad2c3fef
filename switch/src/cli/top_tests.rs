use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::api::core::Load;
use crate::api::counters::{DropReport, RateReport};
use crate::api::device::LostReport;
use crate::api::example;
use crate::api::vm::{LimitReport, LimitsReport};

fn vm(name: &str, rx_bits_per_second: f64, throttled_ratio: f64) -> VmReport {
    let limit = LimitReport {
        bits_per_second: Some(1_000_000_000),
        packets_per_second: Some(200_000),
        ..LimitReport::default()
    };
    let mut vm = example::vm(name);
    (vm.nics_up, vm.nics_total) = (1, 2);
    vm.rates = RateReport {
        rx_frames_per_second: rx_bits_per_second / 8000.0,
        rx_bits_per_second,
        ..RateReport::default()
    };
    vm.limit = LimitsReport {
        from_vm: (throttled_ratio > 0.0).then_some(limit),
        to_vm: None,
    };
    vm.throttled_ratio = throttled_ratio;
    (vm.counters.dropped_frames, vm.lost_frames) = (3, 4);
    (vm.counters.missed_frames, vm.counters.missed_limit_frames) = (7, 5);
    vm.drops = vec![DropReport {
        reason: "runt".into(),
        frames: 3,
        sentence: String::new(),
    }];
    vm
}

fn view() -> View {
    let mut core = example::core();
    (core.cpu, core.rx_queues) = (2, 3);
    core.load = Load {
        cpu_ratio: 0.5,
        busy_ratio: 0.25,
        frames_per_second: 1e6,
        nanoseconds_per_frame: 40.0,
    };
    let mut version = example::version();
    (version.version, version.pid) = ("1".to_owned(), 9);
    let mut uplink = example::uplink();
    uplink.row.rates = RateReport::default();
    uplink.row.counters.dropped_frames = 0;
    uplink.row.counters.missed_frames = 0;
    uplink.device.as_mut().unwrap().lost = Some(LostReport {
        rx_ring_full_frames: 5,
        ..LostReport::default()
    });
    View {
        version,
        vms: vec![vm("web", 1e6, 0.0), vm("db", 9e8, 0.625)],
        cores: vec![core],
        uplinks: vec![uplink],
    }
}

#[test]
fn plain_text_says_all_there_is() {
    let text = text(&view(), Order::File);
    for part in [
        "weir 1, pid 9: 2 VMs send 112.6 kpps 901.00 Mbit/s",
        "db   1/2   112.5 kpps 900.00 Mbit/s  200.0 kpps 1.00 Gbit/s  62.5 %",
        "3 runt, 5 to-vm limit, 2 to-vm other, 4 lost in the kernel",
        "2    50.0 %  25.0 %  1.00 Mpps  40        3",
        "up0     eth1    0 pps 0 bit/s  0 pps 0 bit/s  0        5",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

/// Names in the first column, from the top.
fn names(screen: &Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let shown = terminal.backend().to_string();
    let name = |line: &str| {
        line.trim_start_matches('"')
            .split_whitespace()
            .next()
            .map(str::to_owned)
    };
    let rows = shown.lines().skip(2).map_while(name);
    rows.take_while(|name| ["web", "db", "app"].contains(&name.as_str()))
        .collect()
}

#[test]
fn key_orders_the_rows_at_once_and_back_again() {
    let mut view = view();
    view.vms.push(VmReport {
        lost_frames: 9,
        rates: RateReport::default(),
        ..vm("app", 0.0, 0.25)
    });
    view.vms[0].rates.tx_bits_per_second = 5.0;
    let mut screen = Screen {
        view,
        error: None,
        order: Order::File,
        first: 0,
    };
    for (key, order) in [
        ('n', ["app", "db", "web"]),
        ('o', ["web", "db", "app"]),
        ('f', ["db", "web", "app"]),
        ('d', ["app", "web", "db"]),
        ('l', ["db", "app", "web"]),
        ('t', ["web", "db", "app"]),
        ('n', ["app", "db", "web"]),
        ('o', ["web", "db", "app"]),
    ] {
        assert!(screen.handle_key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)));
        assert_eq!(names(&screen), order, "{key}");
        assert!(text(&screen.view, screen.order).contains(&format!("\n{} ", order[0])));
    }
    screen.first = 1;
    assert_eq!(names(&screen), ["db", "app"]);
}

#[test]
fn screen_scrolls_sorts_and_ends() {
    let mut screen = Screen {
        view: view(),
        error: None,
        order: Order::File,
        first: 0,
    };
    let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
    assert!(screen.handle_key(key(KeyCode::PageDown)) && screen.first == 1);
    assert!(screen.handle_key(key(KeyCode::Up)) && screen.first == 0);
    assert!(screen.handle_key(key(KeyCode::Char('l'))) && screen.order == Order::Throttled);
    assert!(!screen.handle_key(key(KeyCode::Char('q'))));
    assert!(!screen.handle_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn screen_of_any_size_is_drawn() {
    for (width, height) in [(1, 1), (20, 3), (80, 24), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut screen = Screen {
            view: view(),
            error: None,
            order: Order::File,
            first: 0,
        };
        terminal.draw(|frame| draw(frame, &screen)).unwrap();
        if width == 200 {
            let shown = terminal.backend().to_string();
            assert!(
                shown.contains("THROTTLED") && shown.contains("62.5 %") && shown.contains("q quit"),
                "{shown}"
            );
        }
        screen.error = Some("error: no daemon answers".into());
        terminal.draw(|frame| draw(frame, &screen)).unwrap();
    }
}
