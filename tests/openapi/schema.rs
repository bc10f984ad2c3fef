//! A schema as it is meant: references followed, parts put together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// References within references, of which no document needs so many.
const DEPTH_MAX: usize = 16;

/// What of a schema matters to clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schema<'a> {
    /// Type and format; none: anything.
    pub(crate) kind: Option<String>,
    pub(crate) properties: BTreeMap<&'a str, &'a Value>,
    pub(crate) required: BTreeSet<&'a str>,
    /// Of an array.
    pub(crate) items: Option<&'a Value>,
    /// Of a mapping.
    pub(crate) values: Option<&'a Value>,
    /// None: any value of its type.
    pub(crate) words: Option<BTreeSet<String>>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
}

impl<'a> Schema<'a> {
    /// `value` as it is meant in `document`.
    pub(crate) fn of(document: &'a Value, value: &'a Value) -> Self {
        let mut schema = Self::default();
        schema.take(document, value, DEPTH_MAX);
        schema
    }

    fn take(&mut self, document: &'a Value, value: &'a Value, depth: usize) {
        assert!(depth > 0, "references go round in a circle: {value}");
        if let Some(target) = value["$ref"].as_str() {
            let pointer = target
                .strip_prefix('#')
                .expect("a reference within the document");
            let found = document.pointer(pointer);
            let found = found.unwrap_or_else(|| panic!("there is no {target}"));
            self.take(document, found, depth - 1);
        }
        for part in value["allOf"].as_array().into_iter().flatten() {
            self.take(document, part, depth - 1);
        }
        if let Some(kind) = value.get("type") {
            let format = value["format"].as_str().unwrap_or_default();
            self.kind = Some(format!("{kind} {format}").trim_end().to_owned());
        }
        for either in ["oneOf", "anyOf"] {
            // Compared as a whole: what may be one of several has to stay as it is.
            if let Some(all) = value.get(either) {
                self.kind = Some(format!("{either} {all}"));
            }
        }
        let properties = value["properties"].as_object().into_iter().flatten();
        self.properties
            .extend(properties.map(|(key, of)| (key.as_str(), of)));
        let required = value["required"].as_array().into_iter().flatten();
        self.required.extend(required.filter_map(Value::as_str));
        self.items = value.get("items").or(self.items);
        let values = value
            .get("additionalProperties")
            .filter(|values| values.is_object());
        self.values = values.or(self.values);
        if let Some(words) = value["enum"].as_array() {
            self.words = Some(words.iter().map(Value::to_string).collect());
        }
        self.minimum = value["minimum"].as_f64().or(self.minimum);
        self.maximum = value["maximum"].as_f64().or(self.maximum);
    }
}
