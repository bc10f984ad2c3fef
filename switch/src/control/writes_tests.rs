use axum::http::Method;
use serde_json::Value;

use crate::control::asking::{Api, VM};

#[test]
fn change_says_what_it_did() {
    let api = Api::new(2);
    let change = |method: &str, target: &str, body: &str| {
        let answer = api.ask(method.parse().unwrap(), target, body.to_owned());
        let changes = answer.body["data"]["changes"].as_array().cloned();
        let say = |change: &Value| {
            let word = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", word("object"), word("name"), word("change"))
        };
        let changes: Vec<_> = changes.iter().flatten().map(say).collect();
        (answer.status, changes)
    };
    let said = |status, changes: &[&str]| (status, changes.iter().map(|&c| c.into()).collect());
    assert_eq!(change("POST", "/v1/reload", ""), said(200, &[]));
    assert_eq!(
        change("PUT", "/v1/vms/new", VM),
        said(201, &["vm new added", "nic new/n added"])
    );
    assert_eq!(
        change("PUT", "/v1/vms/new?dry_run=true", VM),
        said(200, &["vm new added", "nic new/n added"])
    );
    assert_eq!(
        change("DELETE", "/v1/vms/vm1", ""),
        said(200, &["vm vm1 removed", "nic vm1/net0 removed"])
    );
    let yaml = "from-vm: { rate: 2gbit }";
    for limit in [yaml, r#"{"from-vm":{"rate":"2gbit"}}"#] {
        assert_eq!(
            change("PATCH", "/v1/vms/vm0/limit", limit),
            said(200, &["vm vm0 changed"])
        );
    }
}

#[test]
fn change_that_is_wrong_is_refused_with_what_is_wrong() {
    let api = Api::new(2);
    let bad = VM.replace("red", "rad");
    let deep = "[".repeat(100_000);
    for (method, target, body, status, code, part) in [
        (
            "POST",
            "/v1/reload",
            "x",
            400,
            "unexpected-body",
            "has no body",
        ),
        (
            "POST",
            "/v1/reload?dry=1",
            "",
            400,
            "unknown-parameter",
            "known are dry_run",
        ),
        (
            "POST",
            "/v1/reload?dry_run=1",
            "",
            400,
            "bad-value",
            "one of true, false",
        ),
        (
            "PUT",
            "/v1/vms/new",
            &bad,
            422,
            "invalid-topology",
            "request:1:25: there is no network",
        ),
        (
            "PUT",
            "/v1/vms/new",
            "",
            422,
            "invalid-topology",
            "this is empty",
        ),
        (
            "PUT",
            "/v1/vms/new",
            "{",
            422,
            "invalid-topology",
            "request:1",
        ),
        (
            "PUT",
            "/v1/vms/new",
            "7",
            422,
            "invalid-topology",
            "mapping",
        ),
        (
            "PUT",
            "/v1/vms/new",
            &deep,
            422,
            "invalid-topology",
            "request:1",
        ),
        (
            "PUT",
            "/v1/vms/new",
            "&a [*a,*a]",
            422,
            "invalid-topology",
            "request:1",
        ),
        (
            "PUT",
            "/v1/vms/a%20b",
            VM,
            400,
            "bad-value",
            "can't be the name of a VM",
        ),
        (
            "PUT",
            "/v1/vms/..",
            VM,
            400,
            "bad-value",
            "can't be the name of a VM",
        ),
        (
            "PUT",
            "/v1/vms/%1b",
            VM,
            400,
            "bad-value",
            "can't be the name of a VM",
        ),
        ("PUT", "/v1/vms/%ff", VM, 400, "malformed", "can't be read"),
        (
            "DELETE",
            "/v1/vms/vm7",
            "",
            404,
            "no-such-vm",
            "there is no VM vm7",
        ),
        (
            "DELETE",
            "/v1/vms/vm1",
            "x",
            400,
            "unexpected-body",
            "a DELETE has no body",
        ),
        (
            "PATCH",
            "/v1/vms/vm7/limit",
            "{}",
            404,
            "no-such-vm",
            "there is no VM vm7",
        ),
        (
            "PATCH",
            "/v1/vms/vm0/limit",
            "{",
            422,
            "invalid-topology",
            "request:1",
        ),
        (
            "PATCH",
            "/v1/vms/vm0/limit",
            "from-vm: { rate: 1gbps }",
            422,
            "invalid-topology",
            "ambig",
        ),
        (
            "PATCH",
            "/v1/vms/vm0/limit",
            "form-vm: 7",
            422,
            "invalid-topology",
            "mean `from-vm`?",
        ),
        (
            "PATCH",
            "/v1/vms/vm0/limit",
            "",
            422,
            "invalid-topology",
            "this is empty",
        ),
    ] {
        let answer = api.refused(method.parse().unwrap(), target, body.to_owned());
        let what = format!("{method} {target} {body:.40}: {}", answer.body);
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &code.into()),
            "{what}"
        );
        assert!(
            answer.body["detail"].as_str().unwrap().contains(part),
            "{what}"
        );
        let mistakes = answer.body["mistakes"].as_array();
        assert_eq!(mistakes.is_some(), status == 422, "{what}");
        for mistake in mistakes.into_iter().flatten() {
            assert!(mistake["message"].as_str().unwrap().len() > 3, "{what}");
            assert_ne!(mistake["line"], 0, "{what}");
        }
    }
    let answer = api.refused(Method::PUT, "/v1/vms/new", vec![b'{', 0xff]);
    assert_eq!(answer.body["code"], "malformed");
}

#[test]
fn condition_is_met_or_the_change_is_refused() {
    let api = Api::new(2);
    for (headers, method, status, code) in [
        (&[("if-match", "\"1\"")][..], "PUT", 201, ""),
        (&[("if-match", "1")], "PUT", 201, ""),
        (&[("if-match", "*")], "PUT", 201, ""),
        (&[("if-none-match", "*")], "PUT", 201, ""),
        (&[("if-match", "\"2\"")], "PUT", 412, "topology-changed"),
        (&[("if-match", "\"2\"")], "POST", 412, "topology-changed"),
        (&[("if-match", "W/\"1\"")], "PUT", 400, "bad-value"),
        (&[("if-match", "-1")], "PUT", 400, "bad-value"),
        (&[("if-match", "+1")], "PUT", 400, "bad-value"),
        (&[("if-match", "")], "PUT", 400, "bad-value"),
        (&[("if-match", "\"")], "PUT", 400, "bad-value"),
        (
            &[("if-match", "99999999999999999999")],
            "PUT",
            400,
            "bad-value",
        ),
        (
            &[("if-match", "1"), ("if-match", "2")],
            "PUT",
            400,
            "bad-value",
        ),
        (&[("if-none-match", "\"1\"")], "PUT", 400, "bad-value"),
        (&[("if-none-match", "*")], "POST", 400, "bad-value"),
    ] {
        let (target, body) = match method {
            "PUT" => ("/v1/vms/new", VM),
            _ => ("/v1/reload", ""),
        };
        let answer = api.ask_with(headers, method.parse().unwrap(), target, body);
        let found = answer.body["code"].as_str().unwrap_or_default();
        assert_eq!(
            (answer.status, found),
            (status, code),
            "{headers:?} {}",
            answer.body
        );
    }
    let answer = api.ask_with(&[("if-none-match", "*")], Method::PUT, "/v1/vms/vm1", VM);
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (412, &"vm-exists".into())
    );
}
