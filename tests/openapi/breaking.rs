//! Differences between two descriptions of an API that break clients of the older one.

use serde_json::Value;

use crate::schema::Schema;

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To the server, which must still take what clients send.
    Request,
    /// To the client, which must still find what it reads.
    Answer,
}

/// Two descriptions, and what was found so far.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    found: Vec<String>,
}

/// Everything that breaks a client, a line each.
pub(crate) fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison {
        old,
        new,
        found: Vec::new(),
    };
    for (path, methods) in entries(&old["paths"]) {
        match new["paths"].get(path) {
            None => comparison.say(path, "removed"),
            Some(now) => comparison.methods(path, methods, now),
        }
    }
    comparison.found
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

impl<'a> Comparison<'a> {
    fn say(&mut self, at: &str, what: &str) {
        self.found.push(format!("{at}: {what}"));
    }

    fn methods(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        for (method, was) in entries(old) {
            let at = format!("{} {path}", method.to_uppercase());
            let Some(is) = new.get(method) else {
                self.say(&at, "removed");
                continue;
            };
            self.parameters(&at, &was["parameters"], &is["parameters"]);
            self.body(&at, was.get("requestBody"), is.get("requestBody"));
            for (status, was) in entries(&was["responses"]) {
                let at = format!("{at}, answer {status}");
                match is["responses"].get(status) {
                    None => self.say(&at, "removed"),
                    Some(is) => self.content(Way::Answer, &at, &was["content"], &is["content"]),
                }
            }
        }
    }

    fn parameters(&mut self, at: &str, old: &'a Value, new: &'a Value) {
        let list = |value: &'a Value| value.as_array().into_iter().flatten();
        let is_same = |a: &Value, b: &Value| a["name"] == b["name"] && a["in"] == b["in"];
        let place = |parameter: &Value| {
            let name = parameter["name"].as_str().unwrap_or_default();
            format!("{at}, parameter {name}")
        };
        for was in list(old) {
            let at = place(was);
            let Some(is) = list(new).find(|is| is_same(was, is)) else {
                self.say(&at, "removed");
                continue;
            };
            if is["required"] == true && was["required"] != true {
                self.say(&at, "required now");
            }
            self.schema(Way::Request, &at, "", &was["schema"], &is["schema"]);
        }
        for is in list(new).filter(|is| is["required"] == true) {
            if !list(old).any(|was| is_same(was, is)) {
                self.say(&place(is), "required now");
            }
        }
    }

    fn body(&mut self, at: &str, old: Option<&'a Value>, new: Option<&'a Value>) {
        let at = format!("{at}, body");
        let is_required = |body: &Value| body["required"] == true;
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) if !is_required(new) => {}
            (None, Some(_)) => self.say(&at, "required now"),
            (Some(_), None) => self.say(&at, "removed"),
            (Some(old), Some(new)) => {
                if is_required(new) && !is_required(old) {
                    self.say(&at, "required now");
                }
                self.content(Way::Request, &at, &old["content"], &new["content"]);
            }
        }
    }

    fn content(&mut self, way: Way, at: &str, old: &'a Value, new: &'a Value) {
        for (media_type, was) in entries(old) {
            match new.get(media_type) {
                None => self.say(at, &format!("media type {media_type} removed")),
                Some(is) => self.schema(way, at, "", &was["schema"], &is["schema"]),
            }
        }
    }

    fn schema(&mut self, way: Way, at: &str, path: &str, old: &'a Value, new: &'a Value) {
        let (was, is) = (Schema::of(self.old, old), Schema::of(self.new, new));
        let here = match path {
            "" => at.to_owned(),
            path => format!("{at}, {path}"),
        };
        if was.kind != is.kind {
            let kind = |schema: &Schema<'_>| schema.kind.clone().unwrap_or("any".to_owned());
            let what = format!("another type: was {}, is {}", kind(&was), kind(&is));
            return self.say(&here, &what);
        }
        self.words(way, &here, &was, &is);
        if way == Way::Request {
            self.bounds(&here, &was, &is);
        }
        for (key, value) in &was.properties {
            let inner = format!("{path}/{key}");
            let there = format!("{at}, {inner}");
            match is.properties.get(key) {
                None => self.say(&there, "removed"),
                Some(now) => self.schema(way, at, &inner, value, now),
            }
        }
        self.required(way, at, path, &was, &is);
        for (inner, was, is) in [("[]", was.items, is.items), ("*", was.values, is.values)] {
            match (was, is) {
                (Some(was), Some(is)) => self.schema(way, at, &format!("{path}/{inner}"), was, is),
                (None, None) => {}
                _ => self.say(&here, "another type: its items"),
            }
        }
    }

    fn words(&mut self, way: Way, at: &str, was: &Schema<'_>, is: &Schema<'_>) {
        match (&was.words, &is.words) {
            (Some(was), Some(is)) => {
                let removed: Vec<_> = was.difference(is).collect();
                removed
                    .iter()
                    .for_each(|word| self.say(at, &format!("value {word} removed")));
            }
            (None, Some(_)) if way == Way::Request => self.say(at, "only some values now"),
            (Some(_), None) if way == Way::Answer => self.say(at, "any value now"),
            _ => {}
        }
    }

    fn bounds(&mut self, at: &str, was: &Schema<'_>, is: &Schema<'_>) {
        let text = |bound: Option<f64>| bound.map_or("none".to_owned(), |bound| bound.to_string());
        let is_tighter = |was: Option<f64>, is: Option<f64>, sign: f64| match (was, is) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(was), Some(is)) => sign * is < sign * was,
        };
        for (name, was, is, sign) in [
            ("minimum", was.minimum, is.minimum, -1.0),
            ("maximum", was.maximum, is.maximum, 1.0),
        ] {
            if is_tighter(was, is, sign) {
                self.say(at, &format!("{name} was {}, is {}", text(was), text(is)));
            }
        }
    }

    fn required(&mut self, way: Way, at: &str, path: &str, was: &Schema<'_>, is: &Schema<'_>) {
        match way {
            Way::Request => is.required.difference(&was.required).for_each(|key| {
                self.found.push(format!("{at}, {path}/{key}: required now"));
            }),
            Way::Answer => was
                .required
                .difference(&is.required)
                // One that was removed is said already.
                .filter(|key| is.properties.contains_key(*key))
                .for_each(|key| {
                    self.found
                        .push(format!("{at}, {path}/{key}: may be absent now"));
                }),
        }
    }
}
