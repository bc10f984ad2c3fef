//! `weir reload`, `weir vm` and `weir limit`: changes of the topology that runs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use serde_json::{Map, Value};

use super::client::{self, Failure, Sent};
use super::command::{How, VmChange};
use super::show::is_plain;
use crate::api::change::ChangeReport;
use crate::api::envelope::Data;
use crate::api::problem::Code;

/// Bytes of a VM's description at most, as the daemon takes them.
const BODY_MAX: u64 = 1 << 20;
/// The directions of a limit.
const DIRECTIONS: [&str; 2] = ["from-vm", "to-vm"];

/// `weir reload`.
///
/// # Errors
/// A sentence: the daemon refuses, or does not answer.
pub(crate) fn reload(control: &Path, how: &How) -> Result<String, String> {
    ask(control, how, sent(Method::POST, "/v1/reload"))
}

/// `weir vm add` and `weir vm remove`.
///
/// # Errors
/// As [`reload`]; the file can't be read.
pub(crate) fn vm(control: &Path, what: &VmChange) -> Result<String, String> {
    match what {
        VmChange::Add {
            name,
            file,
            replace,
            how,
        } => {
            let mut sent = sent(Method::PUT, &path_of(name)?);
            sent.body = read(file)?;
            if !replace {
                sent.headers.push((IF_NONE_MATCH, "*".to_owned()));
            }
            // The daemon knows it as a request.
            ask(control, how, sent)
                .map_err(|why| why.replace(" --> request:", &format!(" --> {}:", file.display())))
        }
        VmChange::Remove { name, how } => ask(control, how, sent(Method::DELETE, &path_of(name)?)),
    }
}

/// `weir limit`.
///
/// # Errors
/// As [`reload`]; a key is none.
pub(crate) fn limit(
    control: &Path,
    vm: &str,
    keys: &[String],
    how: &How,
) -> Result<String, String> {
    let mut sent = sent(Method::PATCH, &format!("{}/limit", path_of(vm)?));
    sent.body = patch(keys)?.to_string().into();
    ask(control, how, sent)
}

fn sent(method: Method, target: &str) -> Sent {
    Sent {
        method,
        target: target.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

fn ask(control: &Path, how: &How, mut sent: Sent) -> Result<String, String> {
    if how.dry_run {
        sent.target += "?dry_run=true";
    }
    if let Some(number) = how.if_topology {
        sent.headers.push((IF_MATCH, format!("\"{number}\"")));
    }
    let answer = client::change(control, &sent).map_err(explain)?;
    match how.json {
        true => client::json(&answer),
        false => Ok(text(&answer)),
    }
}

/// What was changed, and what waits.
fn text(answer: &Data<ChangeReport>) -> String {
    let report = &answer.data;
    let mut text = report.difference.to_string();
    match report.is_dry_run {
        true => text += "nothing has been changed: this was a dry run\n",
        // Writing to a string can't fail.
        false => drop(writeln!(text, "topology {} is in force", answer.topology)),
    }
    for pending in &report.pending {
        let (file, edit) = (&pending.file, pending.edit.text());
        let _ = writeln!(
            text,
            "not read: {file}, which {edit}: `weir reload` reads it"
        );
    }
    text
}

fn explain(failure: Failure) -> String {
    let is_refused = matches!(failure, Failure::Refused(_));
    let help = match &failure {
        failure if failure.is(Code::VmExists) => "; --replace puts this one in its place",
        _ => "",
    };
    let why = String::from(failure);
    match is_refused {
        true => format!("{why}{help}\nnothing has been changed"),
        false => why,
    }
}

fn path_of(vm: &str) -> Result<String, String> {
    if !is_plain(vm) || vm.contains('/') {
        return Err(format!("error: {vm:?} is not a VM's name"));
    }
    Ok(format!("/v1/vms/{vm}"))
}

fn read(file: &Path) -> Result<Bytes, String> {
    let cannot = |e: io::Error| format!("error: cannot read {}: {e}", file.display());
    let mut bytes = Vec::new();
    let most = BODY_MAX + 1;
    let read = if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(cannot)?;
    if bytes.len() as u64 > BODY_MAX {
        return Err(format!(
            "error: {} has more than {BODY_MAX} bytes, which is too much for one VM",
            file.display()
        ));
    }
    Ok(bytes.into())
}

/// The keys as what is different in a limit.
fn patch(keys: &[String]) -> Result<Value, String> {
    let mut patch = Map::new();
    for text in keys {
        let wrong = |why: &str| format!("error: {text:?} is not KEY=VALUE of a limit: {why}");
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("from-vm.rate=2gbit is"))?;
        let (direction, key) = match key.split_once('.') {
            Some((direction, key)) => (direction, Some(key)),
            None => (key, None),
        };
        if !DIRECTIONS.contains(&direction) {
            return Err(wrong("it begins with from-vm or to-vm"));
        }
        if key == Some("") {
            return Err(wrong("the key is missing, as in from-vm.rate"));
        }
        let value = match value {
            "" => Value::Null,
            value => Value::String(value.to_owned()),
        };
        let is_first = !patch.contains_key(direction);
        match (
            key,
            patch.entry(direction).or_insert_with(|| Map::new().into()),
        ) {
            // All of this direction.
            (None, entry) if value.is_null() && is_first => *entry = Value::Null,
            (key, Value::Object(keys)) if !(key.is_none() && value.is_null()) => {
                let key = key.unwrap_or("rate");
                if keys.insert(key.to_owned(), value).is_some() {
                    return Err(wrong("this key is given twice"));
                }
            }
            _ => return Err(wrong("it contradicts another one")),
        }
    }
    Ok(patch.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(text: &str) -> Result<Value, String> {
        let keys: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        patch(&keys)
    }

    #[test]
    fn keys_are_a_patch_of_the_limit() {
        for (text, wanted) in [
            ("from-vm=2gbit", json!({"from-vm": {"rate": "2gbit"}})),
            (
                "from-vm.rate=2gbit to-vm.queue=none from-vm.packets=",
                json!({"from-vm": {"rate": "2gbit", "packets": null}, "to-vm": {"queue": "none"}}),
            ),
            ("to-vm=", json!({"to-vm": null})),
            ("to-vm.rate=", json!({"to-vm": {"rate": null}})),
            ("from-vm.rate=a=b", json!({"from-vm": {"rate": "a=b"}})),
        ] {
            assert_eq!(keys(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn key_that_is_none_is_named() {
        for (text, why) in [
            ("from-vm", "from-vm.rate=2gbit is"),
            ("rate=1gbit", "begins with from-vm or to-vm"),
            ("from-vm.=1", "the key is missing"),
            ("from-vm=1 from-vm.rate=2", "given twice"),
            ("from-vm= from-vm.rate=2", "contradicts"),
            ("from-vm.rate=2 from-vm=", "contradicts"),
            ("from-vm= from-vm=", "contradicts"),
        ] {
            let found = keys(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn vm_that_can_have_no_such_name_is_refused_here() {
        for name in ["", "a/b", "a b", "a?b", "../x\n"] {
            assert!(path_of(name).is_err(), "{name:?}");
        }
        assert_eq!(path_of("web-1").unwrap(), "/v1/vms/web-1");
    }
}
