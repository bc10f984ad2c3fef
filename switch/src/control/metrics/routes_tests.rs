use axum::http::{Method, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::control::fixture;

/// Status, content type and body of the answer of a switch with 3 VMs.
async fn ask(request: Request<Body>) -> (u16, String, String) {
    let router = router(&fixture::sources(&fixture::topology(3)), Router::new());
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers()[CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        content_type,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

fn request(method: Method, target: &str, hosts: &[&str]) -> Request<Body> {
    let request = Request::builder().method(method).uri(target);
    let request = hosts
        .iter()
        .fold(request, |request, host| request.header("host", *host));
    request.body(Body::empty()).unwrap()
}

fn get_of(target: &str) -> Request<Body> {
    request(Method::GET, target, &["127.0.0.1:9477"])
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let (status, content_type, text) = ask(get_of("/metrics")).await;
    assert_eq!(status, 200);
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE weir_port_rx_frames_total counter",
        "weir_port_rx_frames_total{port=\"vm1/net0\",vm=\"vm1\"} 0",
        "weir_port_rx_frames_total{port=\"up0\"} 0",
        "weir_port_info{port=\"vm0/net0\",vm=\"vm0\",kind=\"vhost-user\",network=\"blue\"} 1",
        "weir_port_info{port=\"up0\",kind=\"uplink\"} 1",
        "weir_port_state{port=\"vm0/net0\",vm=\"vm0\",state=\"waiting\"} 1",
        "weir_port_state{port=\"vm0/net0\",vm=\"vm0\",state=\"up\"} 0",
        "weir_port_dropped_frames_total{port=\"vm2/net0\",vm=\"vm2\",reason=\"denied\"} 0",
        "weir_device_mtu_bytes{port=\"up0\"} 0",
        "weir_vm_limit_bytes_per_second{vm=\"vm1\",direction=\"from-vm\"} 125000000.0",
        "weir_core_rx_queues{cpu=\"0\"} 0",
        "weir_flows_max 1024",
        "weir_ports 4",
        "weir_ports_max 512",
        "weir_topology_number 1",
    ] {
        assert!(
            text.lines().any(|there| there == line),
            "no {line} in {text}"
        );
    }
}

/// Prometheus refuses all of a scrape that has one series twice, or one metric in two places.
#[tokio::test]
async fn no_series_is_there_twice() {
    let (_, _, text) = ask(get_of("/metrics")).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<_> = samples
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let mut sorted = series.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), series.len());
    let types: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .collect();
    let mut once = types.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), types.len());
}

#[tokio::test]
async fn labels_are_on_the_vm_alone_and_cannot_break_out() {
    let text = "cores: [0]\nflows: 1024\nports: 8\nnetworks: { a: {} }\nvms: { v: { labels: { \
        owner: 'a\"} 1 \\ b', port: x, vm: y }, nics: { n: { network: a, vhost-user: { path: \
        /run/v } } } } }\n";
    let router = router(&fixture::sources(text), Router::new());
    let response = router.oneshot(get_of("/metrics")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let with_labels: Vec<_> = body
        .lines()
        .filter(|line| line.contains("label_"))
        .collect();
    let escaped = r#"label_owner="a\"} 1 \\ b""#;
    let info = format!("weir_vm_info{{vm=\"v\",{escaped},label_port=\"x\",label_vm=\"y\"}} 1");
    assert_eq!(with_labels[1..], [info.as_str()], "{with_labels:?}");
    assert!(with_labels[0].starts_with("# HELP weir_vm_info "));
}

#[tokio::test]
async fn only_requests_for_this_host_are_answered() {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for host in [
        "127.0.0.1",
        "127.0.0.1:9477",
        "[::1]:9477",
        "LocalHost:1",
        own.trim(),
    ] {
        let (status, ..) = ask(request(Method::GET, "/metrics", &[host])).await;
        assert_eq!(status, 200, "{host}");
    }
    let absolute = request(Method::GET, "http://localhost:9477/metrics", &["localhost"]);
    assert_eq!(ask(absolute).await.0, 200);
    for (target, hosts, status) in [
        ("/metrics", &["evil.example"][..], 403),
        ("/metrics", &["localhost.evil.example:9477"], 403),
        ("/metrics", &["127.0.0.1.evil.example"], 403),
        ("/metrics", &["127.0.0.1@evil.example"], 403),
        ("/metrics", &[""], 403),
        ("/metrics", &["h\u{e9}"], 403),
        ("/metrics", &["::1"], 403),
        ("http://evil.example/metrics", &["localhost"], 403),
        ("/nothing", &["evil.example"], 403),
        ("/metrics", &[], 400),
        ("/metrics", &["localhost", "evil.example"], 400),
    ] {
        let (found, _, problem) = ask(request(Method::GET, target, hosts)).await;
        assert_eq!(found, status, "{target} {hosts:?}: {problem}");
        let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
        let code = if status == 403 {
            "wrong-host"
        } else {
            "malformed"
        };
        assert_eq!(
            (&problem["code"], &problem["at"]),
            (&code.into(), &"Host".into())
        );
        assert!(problem["detail"].as_str().unwrap().len() > 20, "{problem}");
    }
}

#[tokio::test]
async fn nothing_can_be_changed_or_asked_for_but_metrics() {
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let (status, _, problem) = ask(request(method, "/metrics", &["localhost"])).await;
        assert_eq!(status, 405, "{problem}");
        assert!(problem.contains("GET, HEAD"), "{problem}");
    }
    let (status, _, body) = ask(request(Method::HEAD, "/metrics", &["localhost"])).await;
    assert_eq!((status, body.as_str()), (200, ""));
    for target in [
        "/v1/vms",
        "/v1/openapi.json",
        "/metrics/",
        "/%2e%2e/metrics",
    ] {
        let (status, _, problem) = ask(get_of(target)).await;
        assert_eq!(status, 404, "{target}");
        assert!(problem.contains("/metrics has the metrics"), "{problem}");
    }
}
