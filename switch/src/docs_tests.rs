//! The examples in `docs/api.md` are what the code gives.

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

/// `WRITE_DOCS=1` writes what this compares.
#[test]
fn examples_in_docs_are_what_the_code_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let committed = std::fs::read_to_string(&path).unwrap();
    let mut text = committed.clone();
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
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == text,
        "docs/api.md is not what the code gives: WRITE_DOCS=1 cargo test -p weir --lib docs, and \
        look at the difference"
    );
}
