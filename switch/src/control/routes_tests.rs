use axum::http::Method;
use serde_json::Value;

use crate::control::asking::{Api, VM};
use crate::control::server::router;
use crate::control::{fixture, openapi};

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    items.iter().map(name).collect()
}

#[test]
fn every_report_is_in_its_envelope() {
    let api = Api::new(3);
    for path in [
        "vms", "ports", "uplinks", "networks", "macs", "cores", "queues",
    ] {
        let list = api.get(&format!("/v1/{path}"));
        let n = list["items"].as_array().unwrap().len();
        assert_eq!(list["total"], n, "{list}");
        assert!(list.get("next").is_none(), "{list}");
    }
    for path in [
        "version",
        "flows",
        "vms/vm0",
        "vms/vm0/nics/net0",
        "uplinks/up0",
    ] {
        let answer = api.get(&format!("/v1/{path}"));
        assert!(answer["data"].is_object(), "{answer}");
    }
    assert_eq!(
        names(&api.get("/v1/ports")),
        ["vm0/net0", "vm1/net0", "vm2/net0", "up0"]
    );
    assert_eq!(names(&api.get("/v1/networks")), ["blue", "red"]);
}

#[test]
fn nothing_that_is_absent_or_zero_in_a_list_of_counts_is_there() {
    fn check(at: &str, value: &Value) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::Object(all) => all.iter().for_each(|(key, value)| {
                assert!(!key.contains('-'), "{at}.{key}");
                check(&format!("{at}.{key}"), value);
            }),
            Value::Array(all) => all.iter().for_each(|value| check(at, value)),
            _ => {}
        }
    }
    let api = Api::new(2);
    for path in [
        "version",
        "vms",
        "vms/vm0",
        "vms/vm1/nics/net0",
        "ports",
        "uplinks",
        "networks",
        "macs",
        "flows",
        "cores",
        "cores?also=gone",
        "queues",
    ] {
        check(path, &api.get(&format!("/v1/{path}")));
    }
    let nic = api.get("/v1/vms/vm0/nics/net0");
    assert_eq!(nic["data"]["drops"], Value::Array(Vec::new()), "{nic}");
    assert_eq!(nic["data"]["state"], "waiting");
    assert_eq!(nic["data"]["sentence"], "waiting for guest");
}

#[test]
fn pages_have_each_port_once() {
    let api = Api::new(250);
    let (mut all, mut target) = (Vec::new(), "/v1/ports?limit=60".to_owned());
    loop {
        let page = api.get(&target);
        assert_eq!(page["total"], 251);
        all.extend(names(&page));
        match page["next"].as_str() {
            None => break,
            Some(next) => {
                assert_eq!(page["items"].as_array().unwrap().len(), 60);
                target = format!("/v1/ports?limit=60&after={}", next.replace('/', "%2F"));
            }
        }
    }
    let expected = (0..250)
        .map(|n| format!("vm{n}/net0"))
        .chain(["up0".to_owned()]);
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert_eq!(names(&api.get("/v1/ports")).len(), 100);
    assert_eq!(
        names(&api.get("/v1/vms?after=vm247&limit=9")),
        ["vm248", "vm249"]
    );
}

#[test]
fn macs_go_on_behind_one_that_has_left_the_table() {
    use flowtable::mac::entry::Kind;
    let text = fixture::topology(3);
    let sources = fixture::sources(&text);
    let table = sources.cores.macs().clone();
    for n in 0..9 {
        table.learn(0, [2, 0, 0, 0, 0, n], 3, Kind::Learned, u32::MAX, 0);
    }
    let api = Api(router(sources, fixture::changes(&text)));
    let first = api.get("/v1/macs?limit=5");
    let next = first["next"].as_str().unwrap();
    assert_eq!(next, "blue,up0,02:00:00:00:00:04");
    table.forget_port(3);
    for n in 5..9 {
        table.learn(0, [2, 0, 0, 0, 0, n], 3, Kind::Learned, u32::MAX, 0);
    }
    let second = api.get(&format!("/v1/macs?limit=5&after={next}"));
    assert_eq!(second["items"][0]["mac"], "02:00:00:00:00:05", "{second}");
    assert_eq!(second["items"].as_array().unwrap().len(), 4);
    for after in [
        "green,up0,02:00:00:00:00:04",
        "blue,up9,02:00:00:00:00:04",
        "blue",
        "",
    ] {
        let target = format!("/v1/macs?after={after}");
        let answer = api.refused(Method::GET, &target, "");
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (410, &"cursor-gone".into())
        );
    }
}

#[test]
fn ports_are_found_by_vm_network_and_state() {
    let api = Api::new(4);
    let found = |query: &str| names(&api.get(&format!("/v1/ports?{query}")));
    assert_eq!(found("vm=vm2"), ["vm2/net0"]);
    assert_eq!(found("network=blue"), ["vm0/net0", "vm2/net0", "up0"]);
    assert_eq!(found("network=blue&vm=vm2&state=waiting"), ["vm2/net0"]);
    assert!(found("state=up").is_empty() && found("vm=nobody").is_empty());
    assert_eq!(api.get("/v1/ports?vm=vm2")["total"], 1);
}

#[test]
fn bad_requests_are_refused_with_a_sentence_that_says_what_is_wrong() {
    let api = Api::new(2);
    for (target, status, code, at, part) in [
        ("/", 404, "no-such-path", None, "\"/\""),
        ("/v1", 404, "no-such-path", None, "openapi.json lists"),
        ("/v1/ports/", 404, "no-such-path", None, "/v1/ports/"),
        ("/v1/limits", 404, "no-such-path", None, "/v1/limits"),
        (
            "/v1/vms/vn0",
            404,
            "no-such-vm",
            Some("vm"),
            "did you mean vm0?",
        ),
        (
            "/v1/vms/zzzzzz",
            404,
            "no-such-vm",
            Some("vm"),
            "GET /v1/vms lists",
        ),
        (
            "/v1/vms/%1B%5B2J",
            404,
            "no-such-vm",
            Some("vm"),
            "\\u{1b}[2J",
        ),
        ("/v1/vms/%FF", 400, "malformed", None, "can't be read"),
        (
            "/v1/vms/no/nics/net0",
            404,
            "no-such-vm",
            Some("vm"),
            "no port no/net0",
        ),
        (
            "/v1/vms/vm0/nics/n",
            404,
            "no-such-nic",
            Some("nic"),
            "NICs of vm0 are net0",
        ),
        (
            "/v1/uplinks/up1",
            404,
            "no-such-uplink",
            Some("uplink"),
            "did you mean up0?",
        ),
        (
            "/v1/uplinks/vm0%2Fnet0",
            404,
            "no-such-uplink",
            Some("uplink"),
            "vm0/net0",
        ),
        (
            "/v1/version?x=1",
            400,
            "unknown-parameter",
            Some("x"),
            "this path takes none",
        ),
        (
            "/v1/cores?also=all",
            400,
            "bad-value",
            Some("also"),
            "also is one of gone",
        ),
        (
            "/v1/uplinks?limit=1",
            400,
            "unknown-parameter",
            Some("limit"),
            "takes none",
        ),
        (
            "/v1/ports?stat=up",
            400,
            "unknown-parameter",
            Some("stat"),
            "did you mean state?",
        ),
        (
            "/v1/ports?state=on",
            400,
            "bad-value",
            Some("state"),
            "waiting, connected, impaired, up",
        ),
        (
            "/v1/ports?limit=0",
            400,
            "bad-value",
            Some("limit"),
            "from 1 to 1000",
        ),
        (
            "/v1/ports?after=x",
            410,
            "cursor-gone",
            Some("after"),
            "list again",
        ),
        (
            "/v1/vms?vm=a&vm=b",
            400,
            "unknown-parameter",
            Some("vm"),
            "known are limit, after",
        ),
        (
            "/v1/vms?limit=1&limit=2",
            400,
            "repeated-parameter",
            Some("limit"),
            "more than once",
        ),
    ] {
        let answer = api.refused(Method::GET, target, "");
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &code.into()),
            "{target}"
        );
        assert_eq!(
            answer.body.get("at").and_then(Value::as_str),
            at,
            "{target}"
        );
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{target}: {detail}");
    }
}

#[test]
fn other_methods_and_bodies_are_refused() {
    let api = Api::new(1);
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        let answer = api.refused(method.clone(), "/v1/ports", "");
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (405, &"no-such-method".into())
        );
        assert_eq!(answer.allow.as_deref(), Some("GET,HEAD"), "{method}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains("takes GET, HEAD, and not"), "{detail}");
    }
    let answer = api.refused(Method::GET, "/v1/ports", "hello");
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (400, &"unexpected-body".into())
    );
    let large = vec![b' '; (1 << 20) + 1];
    let answer = api.refused(Method::PUT, "/v1/ports", large.clone());
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (413, &"too-large".into())
    );
    let answer = api.refused(Method::PUT, "/v1/ports", large[1..].to_vec());
    assert_eq!(answer.status, 405, "a whole MiB may come");
}

#[test]
fn every_path_of_the_description_is_answered() {
    let api = Api::new(1);
    let document = serde_json::to_value(openapi::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 15);
    for (path, methods) in paths {
        let target = path
            .replace("{vm}", "vm0")
            .replace("{nic}", "net0")
            .replace("{uplink}", "up0");
        for method in methods.as_object().unwrap().keys() {
            let body = match &**method {
                "put" => VM,
                "patch" => "{}",
                _ => "",
            };
            let method = method.to_uppercase().parse().unwrap();
            assert_eq!(api.ask(method, &target, body).status, 200, "{target}");
        }
    }
}
