use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::api::core::Load;
use crate::api::counters::DropReport;
use crate::api::vm::LimitReport;

fn vm(name: &str, rx_bps: f64, throttled: f64) -> VmReport {
    let limit = LimitReport {
        bits_per_sec: Some(1_000_000_000),
        packets_per_sec: Some(200_000),
        ..LimitReport::default()
    };
    VmReport {
        name: name.to_owned(),
        nics_up: 1,
        nics: 2,
        rates: RateReport {
            rx_pps: rx_bps / 8000.0,
            rx_bps,
            tx_pps: 0.0,
            tx_bps: 0.0,
        },
        from_vm: (throttled > 0.0).then_some(limit),
        to_vm: None,
        throttled_ns: 0,
        throttled,
        missed: 7,
        limited: 5,
        lost: 4,
        drops: vec![DropReport {
            reason: "runt".into(),
            frames: 3,
            sentence: String::new(),
        }],
    }
}

fn view() -> View {
    let core = CoreReport {
        cpu: 2,
        rx_queues: 3,
        turns: 0,
        busy_cycles: 0,
        held_cycles: 0,
        rx_frames: 0,
        bursts: 0,
        sleeps: 0,
        cpu_ns: 0,
        load: Load {
            cpu: 0.5,
            busy: 0.25,
            pps: 1e6,
            ns_per_frame: 40.0,
        },
    };
    let version = VersionReport {
        program: "weir".into(),
        version: "1".into(),
        pid: 9,
    };
    let uplinks = r#"[{
        "name": "up0", "device": "eth1", "carrier": true,
        "lost": { "rx_ring_full": 5 }, "more": 1
    }]"#;
    let uplinks = serde_json::from_str(uplinks).unwrap();
    View {
        version,
        vms: vec![vm("web", 1e6, 0.0), vm("db", 9e8, 0.625)],
        cores: vec![core],
        uplinks,
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
        lost: 9,
        rates: RateReport::default(),
        ..vm("app", 0.0, 0.25)
    });
    view.vms[0].rates.tx_bps = 5.0;
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
