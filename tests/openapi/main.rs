//! The API's description against the one that clients were made for: a newer one may add to it, and
//! take nothing away.

mod breaking;
mod schema;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use breaking::breaking;

fn read(name: &str) -> Value {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text = fs::read_to_string(docs.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// After a release the new description takes the place of `docs/openapi-v1.json`.
#[test]
fn nothing_that_clients_rely_upon_is_gone() {
    let found = breaking(&read("openapi-v1.json"), &read("openapi.json"));
    assert!(
        found.is_empty(),
        "from version 1 on the API may be added to, and no more:\n{}",
        found.join("\n")
    );
}

/// What is found after a change of the description.
fn after(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = read("openapi-v1.json");
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new, "it changes nothing");
    breaking(&old, &new)
}

/// The value at a JSON pointer.
fn at<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
    let found = document.pointer_mut(pointer);
    found.unwrap_or_else(|| panic!("there is no {pointer}"))
}

fn remove(document: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match at(document, parent) {
        Value::Object(all) => drop(all.remove(&key.replace("~1", "/")).unwrap()),
        Value::Array(all) => drop(all.remove(key.parse().unwrap())),
        other => panic!("{parent} is {other}"),
    }
}

const PORTS: &str = "/paths/~1v1~1ports/get";

#[test]
fn what_is_removed_breaks_clients() {
    for (pointer, said) in [
        ("/paths/~1v1~1flows", "/v1/flows: removed"),
        (PORTS, "GET /v1/ports: removed"),
        (
            "/paths/~1v1~1ports/get/responses/200",
            "GET /v1/ports, answer 200: removed",
        ),
        (
            "/paths/~1v1~1ports/get/parameters/2",
            "GET /v1/ports, parameter state: removed",
        ),
        (
            "/components/schemas/Counters/properties/rx_frames",
            "GET /v1/ports, answer 200, /items/[]/counters/rx_frames: removed",
        ),
        (
            "/components/schemas/Counters/properties/rx_frames",
            "GET /v1/vms/{vm}/nics/{nic}, answer 200, /data/counters/rx_frames: removed",
        ),
        (
            "/components/schemas/PortState/enum/1",
            "GET /v1/ports, answer 200, /items/[]/state: value \"waiting\" removed",
        ),
        (
            "/components/schemas/PortState/enum/1",
            "GET /v1/ports, parameter state: value \"waiting\" removed",
        ),
        (
            "/components/schemas/Problem/required/0",
            "GET /v1/ports, answer 4XX, /status: may be absent now",
        ),
    ] {
        let found = after(|new| remove(new, pointer));
        assert!(found.contains(&said.to_owned()), "{pointer}: {found:#?}");
    }
}

#[test]
fn what_has_another_type_breaks_clients() {
    let counter = "/components/schemas/Counters/properties/rx_frames";
    for (pointer, value) in [
        ("/type", json!("string")),
        ("/format", json!("int32")),
        ("", json!({ "$ref": "#/components/schemas/Rates" })),
    ] {
        let found = after(|new| *at(new, &format!("{counter}{pointer}")) = value);
        let said = "GET /v1/vms, answer 200, /items/[]/counters/rx_frames: another type";
        assert!(found.iter().any(|one| one.starts_with(said)), "{found:#?}");
    }
    let drops = "/components/schemas/Vm/properties/drops/items";
    let found = after(|new| *at(new, drops) = json!({ "type": "string" }));
    let said = "GET /v1/vms/{vm}, answer 200, /data/drops/[]: another type";
    assert!(found.iter().any(|one| one.starts_with(said)), "{found:#?}");
    let found = after(|new| *at(new, "/components/schemas/Vm") = json!(true));
    assert!(!found.is_empty(), "anything at all is another type");
}

#[test]
fn what_requests_must_have_now_breaks_clients() {
    let found = after(|new| {
        let all = at(new, &format!("{PORTS}/parameters")).as_array_mut();
        let schema = json!({ "type": "string" });
        all.unwrap()
            .push(json!({ "name": "x", "in": "query", "required": true, "schema": schema }));
    });
    assert_eq!(found, ["GET /v1/ports, parameter x: required now"]);
    let found = after(|new| *at(new, &format!("{PORTS}/parameters/0/required")) = true.into());
    assert_eq!(found, ["GET /v1/ports, parameter vm: required now"]);
    let limit = format!("{PORTS}/parameters/3/schema/maximum");
    let found = after(|new| *at(new, &limit) = 10.into());
    assert_eq!(
        found,
        ["GET /v1/ports, parameter limit: maximum was 1000, is 10"]
    );
}

fn with_body(schema: Value) -> Value {
    let content = json!({ "application/json": { "schema": schema } });
    json!({ "paths": { "/v1/x": { "put": {
        "requestBody": { "required": true, "content": content }, "responses": {}
    } } } })
}

#[test]
fn bodies_of_requests_are_compared_as_what_clients_send() {
    let object = |properties: Value, required: Value| {
        let mut object = json!({ "type": "object", "properties": properties });
        object["required"] = required;
        object
    };
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let old = with_body(object(json!({ "a": text, "b": text }), json!(["a"])));
    for (properties, required, said) in [
        (
            json!({ "a": text, "b": text, "c": number }),
            json!(["a"]),
            None,
        ),
        (json!({ "a": text, "b": text }), json!([]), None),
        (json!({ "a": text }), json!(["a"]), Some("/b: removed")),
        (
            json!({ "a": text, "b": number }),
            json!(["a"]),
            Some("/b: another type"),
        ),
        (
            json!({ "a": text, "b": text }),
            json!(["a", "b"]),
            Some("/b: required now"),
        ),
        (
            json!({ "a": text, "b": text, "c": text }),
            json!(["a", "c"]),
            Some("/c: required now"),
        ),
    ] {
        let found = breaking(&old, &with_body(object(properties, required)));
        match said {
            None => assert!(found.is_empty(), "{found:#?}"),
            Some(said) => {
                let said = format!("PUT /v1/x, body, {said}");
                assert!(
                    found.len() == 1 && found[0].starts_with(&said),
                    "{said}: {found:#?}"
                );
            }
        }
    }
    let mut none = old.clone();
    remove(&mut none, "/paths/~1v1~1x/put/requestBody");
    assert_eq!(breaking(&old, &none), ["PUT /v1/x, body: removed"]);
    assert_eq!(breaking(&none, &old), ["PUT /v1/x, body: required now"]);
}

#[test]
fn what_is_added_or_said_in_other_words_breaks_nobody() {
    let found = after(|new| {
        let flows = at(new, "/paths/~1v1~1flows").clone();
        at(new, "/paths")["/v1/more"] = flows.clone();
        at(new, "/paths/~1v1~1flows")["put"] = flows["get"].clone();
        let counters = at(new, "/components/schemas/Counters");
        counters["properties"]["more"] = json!({ "type": "integer" });
        counters["required"]
            .as_array_mut()
            .unwrap()
            .push("more".into());
        counters["description"] = "in other words".into();
        let states = at(new, "/components/schemas/PortState/enum");
        states.as_array_mut().unwrap().push("moving".into());
        let parameters = at(new, &format!("{PORTS}/parameters"));
        let schema = json!({ "type": "string" });
        let more = json!({ "name": "x", "in": "query", "required": false, "schema": schema });
        parameters.as_array_mut().unwrap().push(more);
        let problem = at(new, "/components/schemas/Problem/required");
        problem.as_array_mut().unwrap().push("at".into());
    });
    assert!(found.is_empty(), "{found:#?}");
}

/// Another name of a schema is nobody's business, and neither is whether it has one.
#[test]
fn schemas_are_compared_by_what_they_are() {
    let old = read("openapi-v1.json");
    let text = old.to_string().replace("schemas/Vm\"", "schemas/Guest\"");
    let mut new: Value = serde_json::from_str(&text).unwrap();
    let vm = at(&mut new, "/components/schemas/Vm").take();
    at(&mut new, "/components/schemas")["Guest"] = vm;
    assert_eq!(breaking(&old, &new), Vec::<String>::new());
}
