//! The keys of the file as an outline for people and as JSON Schema for editors, both made from the
//! table of `keys`.

use std::fmt::Write as _;

use serde_json::{Map as Members, Value, json};

use crate::keys::Kind::{self, List, Map, Names, Scalar, Scalars, Texts};
use crate::keys::{Key, Shape, TOPOLOGY};

/// An outline of all keys, each with its description.
pub fn schema() -> String {
    let mut text = String::new();
    describe(&TOPOLOGY, 0, &mut text);
    text
}

/// The keys as a JSON Schema (draft 2020-12), for completion and for marking unknown keys in an
/// editor. It leaves scalars open: [`crate::load`] checks them.
pub fn json_schema() -> String {
    let mut root = object(&TOPOLOGY);
    root.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    root.insert("title".into(), "weir's topology file".into());
    // Free for anchors.
    root.insert("patternProperties".into(), json!({ "^x-": {} }));
    format!("{:#}\n", Value::from(root))
}

fn describe(shape: &Shape, depth: usize, text: &mut String) {
    for Key(name, kind, about) in shape.keys {
        let indent = "  ".repeat(depth);
        let not_yet = not_yet(shape, name);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{:32}# {about}{not_yet}", format!("{indent}{name}:"));
        match kind {
            Scalar | Scalars | List(Scalar) => {}
            Map(inner) | List(Map(inner)) => describe(inner, depth + 1, text),
            Names(inner) => {
                let _ = writeln!(text, "{indent}  NAME:");
                describe(inner, depth + 2, text);
            }
            Texts => {
                let _ = writeln!(text, "{indent}  NAME:");
            }
            List(_) => {}
        }
    }
}

fn not_yet(shape: &Shape, key: &str) -> &'static str {
    if shape.lacks_yet(key) {
        " (not in this version)"
    } else {
        ""
    }
}

fn object(shape: &Shape) -> Members<String, Value> {
    let property = |Key(name, kind, about): &Key| {
        let mut value = if shape.lacks_yet(name) {
            refused()
        } else {
            value(kind)
        };
        value.insert(
            "description".into(),
            format!("{about}{}", not_yet(shape, name)).into(),
        );
        ((*name).to_owned(), Value::from(value))
    };
    let properties: Members<_, _> = shape.keys.iter().map(property).collect();
    members([
        ("type", may_be_empty("object")),
        ("properties", properties.into()),
        ("additionalProperties", false.into()),
    ])
}

fn value(kind: &Kind) -> Members<String, Value> {
    let list = |of: Value| members([("type", may_be_empty("array")), ("items", of)]);
    match kind {
        Scalar => members([("type", json!(["string", "number", "boolean"]))]),
        Scalars => members([(
            "anyOf",
            json!([value(&Scalar), list(value(&Scalar).into())]),
        )]),
        List(kind) => list(value(kind).into()),
        Map(shape) => object(shape),
        Names(shape) => members([
            ("type", may_be_empty("object")),
            ("additionalProperties", object(shape).into()),
        ]),
        Texts => members([
            ("type", may_be_empty("object")),
            ("additionalProperties", value(&Scalar).into()),
        ]),
    }
}

/// A key without a value is an empty mapping or list.
fn may_be_empty(kind: &str) -> Value {
    json!([kind, "null"])
}

fn refused() -> Members<String, Value> {
    members([("not", json!({}))])
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Members<String, Value> {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NOT_YET;

    #[test]
    fn schema_names_every_key_and_what_is_missing_yet() {
        let schema = schema();
        for line in [
            "cores:",
            "ports:",
            "  NAME:",
            "    labels:",
            "      NAME:\n    limit:",
            "        enabled:",
            "      network:",
            "          path:",
            "mtu:",
        ] {
            assert!(schema.contains(line), "{line} is missing in\n{schema}");
        }
        assert_eq!(
            schema.matches("(not in this version)").count(),
            NOT_YET.len()
        );
    }

    #[test]
    fn json_schema_says_the_same() {
        let text = json_schema();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let network = &schema["properties"]["networks"]["additionalProperties"];
        assert_eq!(network["additionalProperties"], false);
        assert!(
            network["properties"]["vlan"]["description"]
                .as_str()
                .unwrap()
                .contains("1 to 4094"),
            "{network}"
        );
        let vm = &schema["properties"]["vms"]["additionalProperties"];
        let rules = &vm["properties"]["nics"]["additionalProperties"]["properties"]["rules"];
        assert_eq!(
            rules["items"]["properties"]["deny"]["properties"]["to-vm"]["type"],
            json!(["object", "null"])
        );
        let uplink = &schema["properties"]["uplinks"]["additionalProperties"];
        assert_eq!(
            uplink["properties"]["rate"]["not"],
            json!({}),
            "refused by name"
        );
        assert_eq!(
            vm["properties"]["labels"]["additionalProperties"]["type"],
            json!(["string", "number", "boolean"])
        );
        assert_eq!(text.matches("(not in this version)").count(), NOT_YET.len());
    }
}
