//! The status page of a daemon, beside its metrics; in a browser it is tested in
//! `switch/src/page/tests/`.

use std::net::SocketAddr;

use serde_json::Value;

use crate::metrics::{get, says, start};
use crate::rig::exchange;

fn status(address: SocketAddr) -> Value {
    let answer = get(address, "/status.json");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    serde_json::from_str(body).unwrap()
}

#[test]
fn page_and_its_report_are_beside_metrics() {
    let (mut daemon, address) = start();
    let page = get(address, "/");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(body.starts_with("<!doctype html>"), "{body}");

    let [mut a, mut b] = daemon.guests(["a", "b"]);
    daemon.until("what the guests send is on the page", |_| {
        exchange((1, &mut a), (2, &mut b), 64);
        status(address)["vms"][0]["from_vm"]["frames_per_second"].as_f64() > Some(0.0)
    });
    let status = status(address);
    let vm = &status["vms"][0];
    assert_eq!(
        (&vm["name"], &vm["labels"]["owner"]),
        (&"a".into(), &"shop".into())
    );
    assert_eq!(vm["nics"][0]["state"], "up");
    assert_eq!(vm["from_vm"]["limit_bits_per_second"], 1_000_000_000);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn page_is_for_this_host_and_for_reading_alone() {
    let (_daemon, address) = start();
    for path in ["/", "/status.json"] {
        let of_another = format!("GET {path} HTTP/1.1\r\nhost: example.org\r\n\r\n");
        let answer = says(address, of_another.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        for method in ["POST", "PUT", "DELETE"] {
            let write =
                format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
            let answer = says(address, write.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        }
    }
}
