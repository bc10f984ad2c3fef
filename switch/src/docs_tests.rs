//! The examples in `docs/api.md` and the table of `docs/metrics.md` are what the code gives; alerts
//! and dashboard know no metrics but these.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt;
use utoipa::PartialSchema;

use crate::api::envelope::{Data, List};
use crate::api::problem::Code;
use crate::api::vm::VmDetail;
use crate::api::{core, example};
use crate::control::fixture;
use crate::control::metrics::descriptions;

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn data(data: impl Serialize) -> String {
    json(&Data { topology: 7, data })
}

fn examples() -> Vec<(&'static str, String)> {
    let ports = List {
        topology: 7,
        items: vec![example::row(), example::waiting_row()],
        total: 41,
        next: Some("db/net0".to_owned()),
    };
    let vm = VmDetail {
        vm: example::vm("web"),
        nics: vec![example::row()],
    };
    let core: core::CoreReport = example::core();
    vec![
        ("version", data(example::version())),
        ("vm", data(vm)),
        ("ports", json(&ports)),
        ("nic", data(example::nic())),
        ("uplink", data(example::uplink())),
        ("network", json(&example::network())),
        ("mac", json(&example::mac())),
        ("core", json(&core)),
        ("queue", json(&example::rx_queue())),
        ("flows", data(example::flows())),
        ("change", asked("PUT", "/v1/vms/new", VM)),
        ("problem", answer("/v1/ports?stat=up")),
        (
            "mistakes",
            asked("PUT", "/v1/vms/new", &VM.replace("blue", "bleu")),
        ),
        ("codes", codes()),
    ]
}

/// The VM that the text adds.
const VM: &str = "
      { \"nics\": { \"net0\": { \"network\": \"blue\", \"vhost-user\": { \"path\": \
    \"/run/weir/new.sock\" } } } }";

/// What a switch answers.
fn answer(target: &str) -> String {
    asked("GET", target, "")
}

/// What a switch answers to a request with a body.
fn asked(method: &str, target: &str, body: &str) -> String {
    let router = fixture::router(&fixture::topology(1));
    let request = Request::builder().method(method).uri(target);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let body = runtime.block_on(async {
        let response = router.oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    json(&serde_json::from_slice::<Value>(&body).unwrap())
}

fn codes() -> String {
    let schema = serde_json::to_value(Code::schema()).unwrap();
    let codes = schema["enum"].as_array().unwrap();
    let codes: Vec<_> = codes.iter().filter_map(Value::as_str).collect();
    let lines: Vec<_> = codes.chunks(4).map(|some| some.join(", ")).collect();
    lines.join(",\n")
}

/// A file of the repository.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Panics if the file is not this text, and writes it if `WRITE_DOCS=1` says so.
fn compare(path: &str, text: &str) {
    if std::env::var_os("WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        std::fs::write(path, text).unwrap();
    }
    assert!(
        read(path) == text,
        "{path} is not what the code gives: WRITE_DOCS=1 cargo test -p weir --lib docs, and look \
        at the difference"
    );
}

/// `WRITE_DOCS=1` writes what this compares.
#[test]
fn examples_in_docs_are_what_the_code_gives() {
    let mut text = read("docs/api.md");
    for (name, example) in examples() {
        let head = format!("<!-- example: {name} -->\n```");
        let begin = text
            .find(&head)
            .unwrap_or_else(|| panic!("docs/api.md lacks {name}"));
        let body = begin + head.len() + text[begin + head.len()..].find('\n').unwrap() + 1;
        let end = body + text[body..].find("```").unwrap();
        text.replace_range(body..end, &(example + "\n"));
    }
    assert_eq!(text.matches("<!-- example:").count(), examples().len());
    compare("docs/api.md", &text);
}

#[test]
fn table_in_docs_has_every_metric() {
    let mut table = String::from("| metric | type | labels | what it is |\n|---|---|---|---|\n");
    for metric in descriptions() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = labels.join(", ");
        let help = metric.help.replace('|', "\\|");
        table += &format!(
            "| `{}` | {} | {labels} | {help} |\n",
            metric.name, metric.kind
        );
    }
    let text = read("docs/metrics.md");
    let begin = "<!-- table: metrics -->\n";
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once("<!-- end -->").unwrap();
    compare(
        "docs/metrics.md",
        &format!("{head}{begin}{table}<!-- end -->{tail}"),
    );
}

/// Words of a text that look like metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words.filter(|word| word.starts_with("weir_")).collect()
}

#[test]
fn alerts_and_dashboard_know_no_other_metrics() {
    let metrics = descriptions();
    let known: BTreeSet<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(known.len(), metrics.len(), "two metrics have one name");
    for (path, n_min) in [
        ("packaging/prometheus/weir.rules.yml", 20),
        ("packaging/prometheus/weir.rules.test.yml", 20),
        ("packaging/grafana/weir.json", 20),
        ("docs/metrics.md", 60),
    ] {
        let text = read(path);
        let found = metrics_in(&text);
        let unknown: Vec<_> = found.difference(&known).collect();
        assert!(unknown.is_empty(), "{path} has {unknown:?}");
        assert!(found.len() >= n_min, "{path} has {} only", found.len());
    }
}

#[test]
fn metrics_are_named_as_prometheus_wants_them() {
    for metric in descriptions() {
        let name = metric.name;
        assert!(name.starts_with("weir_") && !name.contains("__"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
        assert!(
            !name.contains("bits") && !name.contains("nano"),
            "{name}: base units"
        );
        let help = metric.help;
        let begins = help.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
        assert!(
            begins && help.ends_with('.') && !help.contains("  "),
            "{name}: {help}"
        );
    }
}
