//! Metrics by TCP, read by a client that goes by the rules, by others, and by Prometheus itself;
//! and where operators reach the daemon, which a change of the file may exchange.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::{Daemon, PATIENCE, exchange, folder, frame, introduce, send, text, weir, write};

/// Two VMs in one network, and metrics at this address.
fn topology(listen: SocketAddr) -> String {
    format!("metrics: {{ listen: \"{listen}\" }}\n{}", without_metrics())
}

fn without_metrics() -> String {
    "cores: [CPU]\ncontrol: { path: DIR/control.sock }\nnetworks: { blue: {} }\nvms:\n  a: { \
    labels: { owner: shop }, limit: { from-vm: { rate: 1gbit } }, nics: { net0: { network: blue, \
    vhost-user: { path: DIR/a.sock } } } }\n  b: { nics: { net0: { network: blue, vhost-user: { \
    path: DIR/b.sock } } } }\n"
        .to_owned()
}

/// An address of this host that nobody listens on, which others may yet take.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn start() -> (Daemon, SocketAddr) {
    let address = free_address();
    (Daemon::start(&topology(address)), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes until the other side closes.
fn rest(mut stream: &TcpStream) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&bytes[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("{e}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// The whole answer to these bytes.
pub(crate) fn says(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // The daemon may close before it has taken all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    rest(&stream)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    says(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )
}

/// What `/metrics` has.
fn scrape(address: SocketAddr) -> String {
    let answer = get(address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The value of one series.
fn value(metrics: &str, series: &str) -> f64 {
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}"))
        .parse()
        .unwrap()
}

/// The program, unless it isn't installed; in CI it has to be.
fn program(name: &str) -> Option<Command> {
    let is_there = Command::new(name).arg("--version").output().is_ok();
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{name} is not installed"
    );
    if !is_there {
        eprintln!("left out: {name} is not installed");
    }
    is_there.then(|| Command::new(name))
}

#[test]
fn counters_are_those_of_the_moment() {
    let (mut daemon, address) = start();
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let rx = "weir_port_rx_frames_total{port=\"a/net0\",vm=\"a\"}";
    let before = value(&scrape(address), rx);
    exchange((1, &mut a), (2, &mut b), 64);
    daemon.until("all are counted", |daemon| {
        daemon.port("a/net0")["counters"]["rx_frames"].as_u64() >= Some(64)
    });
    let metrics = scrape(address);
    assert_eq!(value(&metrics, rx) - before, 64.0);
    assert_eq!(
        value(
            &metrics,
            "weir_port_state{port=\"a/net0\",vm=\"a\",state=\"up\"}"
        ),
        1.0
    );
    assert_eq!(
        value(&metrics, "weir_vm_info{vm=\"a\",label_owner=\"shop\"}"),
        1.0
    );
    // Drops, too, before there are any and after.
    let spoofed = "weir_port_dropped_frames_total{port=\"b/net0\",vm=\"b\",reason=\"spoofed\"}";
    assert_eq!(value(&metrics, spoofed), 0.0);
    send(&mut b, &frame(9, 1, 100, 1));
    daemon.until("it is dropped", |_| value(&scrape(address), spoofed) == 1.0);
    // Every counter as the API has it.
    let counters = daemon.port("a/net0")["counters"].clone();
    let metrics = scrape(address);
    for key in [
        "rx_frames",
        "rx_bytes",
        "tx_frames",
        "tx_bytes",
        "forwarded_frames",
    ] {
        let series = format!("weir_port_{key}_total{{port=\"a/net0\",vm=\"a\"}}");
        assert_eq!(
            Some(value(&metrics, &series)),
            counters[key].as_f64(),
            "{key}"
        );
    }
}

#[test]
fn only_reading_is_answered_and_only_for_this_host() {
    let (_daemon, address) = start();
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a".repeat(70_000)
    );
    let headers = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    for (bytes, status, code) in [
        (
            "GET /metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n",
            403,
            "wrong-host",
        ),
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
            403,
            "wrong-host",
        ),
        ("GET /metrics HTTP/1.1\r\n\r\n", 400, "malformed"),
        ("GET /metrics HTTP/1.0\r\n\r\n", 400, "malformed"),
        (
            "POST /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
            405,
            "no-such-method",
        ),
        (
            "DELETE /v1/vms/a HTTP/1.1\r\nhost: localhost\r\n\r\n",
            404,
            "no-such-path",
        ),
        (
            "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\n\r\n",
            404,
            "no-such-path",
        ),
        (
            "PUT /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n",
            400,
            "",
        ),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "malformed"),
        (&long, 431, "too-large"),
        (&headers, 431, "too-large"),
    ] {
        let answer = says(address, bytes.as_bytes());
        let shown: String = bytes.chars().take(60).collect();
        if code.is_empty() {
            // The body that it announced never came.
            assert!(
                answer.starts_with("HTTP/1.1 4") || answer.is_empty(),
                "{shown}: {answer}"
            );
            continue;
        }
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{shown}: {answer}"
        );
        let body = answer.rsplit_once("\r\n\r\n").unwrap().1;
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{shown}: {problem}");
    }
}

/// Each of them holds a place: there are 16.
#[test]
fn clients_that_are_silent_slow_or_many_cost_others_nothing() {
    let (daemon, address) = start();
    let whole = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut clients = Vec::new();
    for n in 0..100 {
        let mut client = connect(address);
        match n % 5 {
            0 => {}
            1 => client.write_all(b"GET /metr").unwrap(),
            // Asks for more than a socket holds, again and again, and reads nothing.
            2 => {
                client
                    .set_write_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                (0..2000).all(|_| client.write_all(whole.as_bytes()).is_ok());
            }
            3 => client.shutdown(Shutdown::Write).unwrap(),
            _ => {
                let post = b"PUT /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n";
                client.write_all(post).unwrap();
            }
        }
        clients.push(client);
        if n % 10 == 9 {
            let begin = Instant::now();
            scrape(address);
            assert!(daemon.show(&["cores"]).status.success());
            let took = begin.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?} after {n}");
        }
    }
    // The first has lost its place.
    assert_eq!(rest(&clients[0]), "");
    let n_files = daemon.n_files();
    assert!(n_files < 200, "{n_files} files are open");
}

#[test]
fn address_that_cannot_be_had_is_an_error_at_the_start() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dir = folder();
    let file = write(&dir, &topology(taken.local_addr().unwrap()));
    let output = weir().arg("run").arg(file).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("error: metrics: cannot listen on 127.0.0.1:")
            && error.contains("another program listens there"),
        "{error}"
    );
    for name in ["control.sock", "a.sock"] {
        assert!(!dir.path().join(name).exists(), "{name} is left");
    }
}

#[test]
fn metrics_move_come_and_go_by_a_reload() {
    let (mut daemon, first) = start();
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let mut waiting = connect(first);
    let second = free_address();
    assert!(daemon.reload(&topology(second)));
    scrape(second);
    daemon.until("the old one is closed", |_| {
        TcpStream::connect(first).is_err()
    });
    waiting
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(rest(&waiting).starts_with("HTTP/1.1 200 OK"));
    // One that is taken changes nothing, whatever else the file says.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other = topology(taken.local_addr().unwrap());
    let n_files = daemon.n_files();
    assert!(!daemon.reload(&other.replace("  b: {", "  c: {")));
    assert!(
        daemon.log().contains("another program listens there"),
        "{}",
        daemon.log()
    );
    assert_eq!(value(&scrape(second), "weir_ports"), 2.0);
    assert_eq!(daemon.n_files(), n_files);
    // The same port of all addresses, and back.
    let all = SocketAddr::from(([0, 0, 0, 0], second.port()));
    for listen in [all, second, all, second] {
        assert!(daemon.reload(&topology(listen)), "{listen}");
        scrape(second);
    }
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], second.port()));
    daemon.until("all others are closed", |_| {
        TcpStream::connect(elsewhere).is_err()
    });
    assert!(daemon.reload(&without_metrics()));
    daemon.until("nothing listens", |_| TcpStream::connect(second).is_err());
    assert!(daemon.reload(&topology(second)));
    assert_eq!(value(&scrape(second), "weir_topology_number"), 8.0);
    exchange((1, &mut a), (2, &mut b), 20);
}

impl Daemon {
    /// Whether a client finds the control socket under this name.
    fn answers_at(&self, name: &str) -> bool {
        let control = self.path(name);
        let output = weir()
            .arg("--control")
            .arg(control)
            .args(["show", "cores"])
            .output();
        output.unwrap().status.success()
    }
}

#[test]
fn control_socket_has_another_name_or_mode_after_a_reload() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let (mut daemon, address) = start();
    let [mut a, b] = daemon.guests(["a", "b"]);
    let named = |name: &str| topology(address).replace("DIR/control.sock", name);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // Clients stay connected when only the mode is another.
    let mut client = UnixStream::connect(daemon.path("control.sock")).unwrap();
    assert!(daemon.reload(&named("DIR/control.sock, mode: \"0600\"")));
    assert_eq!(mode(daemon.path("control.sock")), 0o600);
    assert!(daemon.reload(&named("DIR/other.sock, mode: \"0640\"")));
    assert_eq!(mode(daemon.path("other.sock")), 0o640);
    assert!(daemon.answers_at("other.sock"));
    daemon.until("the old one is gone", |daemon| {
        !daemon.path("control.sock").exists()
    });
    // Who had connected to the old one is served.
    client
        .write_all(b"GET /v1/version HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    // The command that moves it gets its answer.
    for (old, new) in [("other.sock", "moved.sock"), ("moved.sock", "other.sock")] {
        write(&daemon.dir, &named(&format!("DIR/{new}, mode: \"0640\"")));
        let mut command = weir();
        let control = daemon.path(old);
        let output = command.arg("--control").arg(control).arg("reload").output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("control.path"),
            "{said}"
        );
        assert!(daemon.answers_at(new));
    }
    // What can't be done changes nothing.
    for (name, why) in [
        ("DIR/sub/control.sock", "can't be moved from"),
        ("DIR/weir.yaml", "a file that is not a socket"),
        (
            "DIR/third.sock, group: weir-no-such-group",
            "no group weir-no-such-group",
        ),
        (
            "DIR/other.sock, group: weir-no-such-group",
            "no group weir-no-such-group",
        ),
    ] {
        assert!(!daemon.reload(&named(name)), "{name}");
        assert!(daemon.log().contains(why), "{why}: {}", daemon.log());
        assert!(daemon.answers_at("other.sock"));
        assert!(!daemon.path("third.sock").exists());
        assert_eq!(mode(daemon.path("other.sock")), 0o640);
    }
    // It takes the place of a guest's socket, and the other way round.
    let swapped = named("DIR/b.sock").replacen(
        "path: DIR/b.sock } } } }",
        "path: DIR/other.sock } } } }",
        1,
    );
    assert!(
        swapped.contains("control: { path: DIR/b.sock }") && swapped.contains("DIR/other.sock }")
    );
    assert!(daemon.reload(&swapped));
    assert!(daemon.answers_at("b.sock"));
    drop(b);
    let mut b = daemon.guest("other.sock", guest::Options::default());
    introduce((1, &mut a), (2, &mut b));
    exchange((1, &mut a), (2, &mut b), 20);
    assert!(daemon.reload(&topology(address)));
    assert!(daemon.answers_at("control.sock"));
    drop(b);
    let mut b = daemon.guest("b.sock", guest::Options::default());
    introduce((1, &mut a), (2, &mut b));
    let mut left: Vec<_> = fs::read_dir(daemon.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sock") || name.starts_with('.'))
        .collect();
    left.sort();
    assert_eq!(left, ["a.sock", "b.sock", "control.sock"]);
}

/// Prometheus, until the value is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(mut program: Command, dir: &Path, target: SocketAddr) -> Self {
        let address = free_address();
        let rules =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus/weir.rules.yml");
        fs::write(
            dir.join("prometheus.yml"),
            format!(
                "global: {{ scrape_interval: 1s }}\nrule_files: [ \"{}\" ]\nscrape_configs:\n  - \
                job_name: weir\n    static_configs: [ {{ targets: [ \"{target}\" ] }} ]\n",
                text(&rules)
            ),
        )
        .unwrap();
        let child = program
            .arg(format!(
                "--config.file={}",
                text(&dir.join("prometheus.yml"))
            ))
            .arg(format!("--storage.tsdb.path={}", text(&dir.join("data"))))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// The value of a query's only result; none: it has none yet.
    fn query(&self, query: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!(
            "GET /api/v1/query?query={query} HTTP/1.0\r\nhost: {}\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).ok()?;
        let answer = rest(&stream);
        let body = answer.split_once("\r\n\r\n")?.1;
        let answer: Value = serde_json::from_str(body).ok()?;
        let result = &answer["data"]["result"];
        assert!(
            result.as_array().is_none_or(|all| all.len() <= 1),
            "{result}"
        );
        result[0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_it_and_has_the_value() {
    let Some(program) = program("prometheus") else {
        return;
    };
    let (mut daemon, address) = start();
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    exchange((1, &mut a), (2, &mut b), 100);
    let prometheus = Prometheus::start(program, daemon.dir.path(), address);
    let log = daemon.path("prometheus.log");
    let sent = daemon.port("a/net0")["counters"]["rx_frames"].as_f64();
    assert!(sent >= Some(100.0));
    daemon.until("Prometheus has the value", |_| {
        prometheus.query("weir_port_rx_frames_total{port='a/net0'}") == sent
    });
    assert_eq!(
        prometheus.query("up{job='weir'}"),
        Some(1.0),
        "{}",
        fs::read_to_string(&log).unwrap()
    );
    let by_owner = "sum by (label_owner) (weir_port_rx_frames_total * on (instance, vm) group_left \
        (label_owner) weir_vm_info{label_owner!=''})";
    assert_eq!(prometheus.query(by_owner), sent);
    // Types and texts came along.
    let types = get(
        prometheus.address,
        "/api/v1/metadata?metric=weir_port_rx_frames_total",
    );
    assert!(types.contains("\"type\":\"counter\""), "{types}");
    // A daemon that is gone is seen to be.
    drop(daemon);
    let begin = Instant::now();
    while prometheus.query("up{job='weir'}") != Some(0.0) {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs `promtool`, and says what is wrong.
fn promtool(program: &mut Command, words: &[&str], stdin: &str) {
    let mut child = program
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {words:?}: {said}");
}

#[test]
fn promtool_accepts_metrics_alerts_and_the_dashboards_queries() {
    let Some(mut check_metrics) = program("promtool") else {
        return;
    };
    let (daemon, address) = start();
    promtool(&mut check_metrics, &["check", "metrics"], &scrape(address));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let file = |name: &str| text(&folder.join("prometheus").join(name));
    let promtool_of = |words: &[&str]| promtool(&mut Command::new("promtool"), words, "");
    promtool_of(&["check", "rules", &file("weir.rules.yml")]);
    promtool_of(&["test", "rules", &file("weir.rules.test.yml")]);
    let tests = fs::read_to_string(file("weir.rules.test.yml")).unwrap();
    let rules = fs::read_to_string(file("weir.rules.yml")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        for ends in ["and it fires", "and it is silent"] {
            assert!(tests.contains(&format!("name: {alert}, {ends}")), "{alert}");
        }
    }
    // The dashboard's queries, as rules.
    let dashboard = fs::read_to_string(folder.join("grafana/weir.json")).unwrap();
    let mut queries = Vec::new();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    queries_in(&dashboard, &mut queries);
    assert!(queries.len() > 30, "{}", queries.len());
    let mut records = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (n, query) in queries.iter().enumerate() {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$instance", "h:1")
            .replace("$vm", ".*");
        let query = serde_json::to_string(&query).unwrap();
        records += &format!("      - {{ record: \"a:{n}\", expr: {query} }}\n");
    }
    let path = daemon.path("dashboard.yml");
    fs::write(&path, records).unwrap();
    promtool_of(&["check", "rules", &text(&path)]);
}

/// All values of `expr` in a dashboard.
fn queries_in<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| queries_in(value, into)),
        Value::Object(all) => {
            into.extend(all.get("expr").and_then(Value::as_str));
            all.values().for_each(|value| queries_in(value, into));
        }
        _ => {}
    }
}
