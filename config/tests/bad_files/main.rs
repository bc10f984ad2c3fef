//! Files with mistakes: where each is found, what is said, and what is offered instead.

mod cases;
mod whole_files;

use config::{Report, parse};

/// The text that a case stands in.
enum In {
    /// The case is the whole file.
    Whole(&'static str),
    /// The case follows a line with `cores`, so it begins on line 2.
    Top(&'static str),
    /// The case is keys of a NIC; it begins on line 8, column 9, and the socket is on line 7.
    Nic(&'static str),
    /// The case is a VM's limit, in column 15 of line 7.
    Limit(&'static str),
    /// The case is keys of a vhost-user port, in column 25 of line 8, instead of its path.
    Socket(&'static str),
}
use In::{Limit, Nic, Socket, Top, Whole};

impl In {
    fn text(&self) -> String {
        const VM: &str = "cores: [0]\nnetworks: { blue: {} }\nvms:\n  a:\n    nics:\n      n:\n";
        match self {
            Whole(text) => (*text).to_owned(),
            Top(text) => format!("cores: [0]\n{text}\n"),
            Nic(keys) => {
                let keys = keys.replace('\n', "\n        ");
                format!(
                    "{VM}        {{ network: blue, vhost-user: {{ path: /s }},\n        {keys} }}\n"
                )
            }
            Limit(limit) => {
                let nics = "{ n: { network: blue, vhost-user: { path: /s } } }";
                format!(
                    "cores: [0]\nnetworks: {{ blue: {{}} }}\nvms:\n  a:\n    nics: {nics}\n\n    \
                    limit:    {limit}\n"
                )
            }
            Socket(keys) => {
                format!("{VM}        network: blue\n        vhost-user:   {{ {keys} }}\n")
            }
        }
    }
}

/// One mistake as it should be found: line, column, part of the message, part of the help.
type Expected = (usize, usize, &'static str, &'static str);

fn report(text: &str) -> Report {
    match parse(text, "weir.yaml") {
        Ok(topology) => panic!("accepted:\n{text}\n{topology:?}"),
        Err(report) => report,
    }
}

fn assert_found(text: &str, expected: &[Expected]) {
    if let Some(difference) = difference(text, expected) {
        panic!("{difference}");
    }
}

/// Expected and found, if they differ.
fn difference(text: &str, expected: &[Expected]) -> Option<String> {
    let report = report(text);
    let found: Vec<_> = report
        .diagnostics()
        .iter()
        .map(|d| (d.line(), d.column(), d.message(), d.help()))
        .collect();
    let fits = |found: &(usize, usize, &str, &str), expected: &Expected| {
        (found.0, found.1) == (expected.0, expected.1)
            && found.2.contains(expected.2)
            && found.3.contains(expected.3)
    };
    let all_fit =
        found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| fits(f, e));
    (!all_fit).then(|| format!("in\n{text}\nexpected {expected:?}\nfound\n{report}\n"))
}

#[test]
fn every_mistake_is_found_in_its_place() {
    let differences: Vec<_> = cases::all()
        .filter_map(|(case, expected)| difference(&case.text(), expected))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
