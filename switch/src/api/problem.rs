//! Why a request was refused: problem details as in RFC 9457.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was refused. Nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// HTTP's number for it.
    pub(crate) status: u16,
    /// HTTP's name for that number.
    pub(crate) title: String,
    /// A sentence for a person: what was asked for, why it can't be had, what to do.
    pub(crate) detail: String,
    /// What is wrong, for a program.
    #[schema(value_type = Code)]
    pub(crate) code: String,
    /// The part of the request that is wrong: name of a parameter or header, or a JSON pointer into
    /// the body, which begins with `/`. Absent: no single part is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) at: Option<String>,
    /// Mistakes in the topology, if that is what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) mistakes: Vec<Mistake>,
    /// The same for a terminal, with the lines that are wrong: several lines, as `weir check`
    /// prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) report: Option<String>,
}

impl Problem {
    /// As lines for a log or a terminal.
    pub(crate) fn into_text(self) -> String {
        let detail = self.detail;
        self.report.unwrap_or_else(|| format!("error: {detail}"))
    }
}

/// A mistake in the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Mistake {
    /// The file; `request` is the request's body.
    pub(crate) file: String,
    /// From 1. Absent, as is `column`: the whole file is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) line: Option<usize>,
    /// In characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

/// What is wrong with a request, for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    /// It is not HTTP/1.1, or ends too early.
    Malformed,
    /// Its head or body is too large.
    TooLarge,
    /// It did not arrive in time.
    Timeout,
    /// Its method takes no body.
    UnexpectedBody,
    /// The header `Host` does not name this host: where metrics are read, no other is taken.
    WrongHost,
    /// Nothing has this path.
    NoSuchPath,
    /// This path has no such method; the header `Allow` lists those that it has.
    NoSuchMethod,
    /// There is no such query parameter here.
    UnknownParameter,
    /// A query parameter is given more than once.
    RepeatedParameter,
    /// A parameter's value can't be used.
    BadValue,
    /// The item that `after` names has gone: list again from the start.
    CursorGone,
    /// There is no VM of this name.
    NoSuchVm,
    /// The VM has no NIC of this name.
    NoSuchNic,
    /// There is no uplink of this name.
    NoSuchUplink,
    /// The topology would have mistakes: `mistakes` lists them.
    InvalidTopology,
    /// A key can't be changed while the daemon runs.
    NeedsRestart,
    /// This host doesn't allow it: a device, a path, memory.
    Unable,
    /// No `include` covers the file that the VM would be in.
    NotIncluded,
    /// The VM is in a file that is not the API's.
    Elsewhere,
    /// The VM's file has been edited since it was read.
    Edited,
    /// There is a VM of this name already.
    VmExists,
    /// Another topology is in force than the one that the request was made for.
    TopologyChanged,
    /// The VM's file can't be written.
    CannotWrite,
    /// The daemon ends.
    Ending,
    /// Too many requests are being carried out.
    Busy,
    /// A mistake in weir.
    Internal,
}

impl Code {
    /// As it is in JSON.
    pub(crate) fn text(self) -> String {
        // A variant without fields is a string.
        let text = serde_json::to_value(self).ok();
        text.and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_with_dashes() {
        assert_eq!(Code::NoSuchVm.text(), "no-such-vm");
        assert_eq!(Code::Busy.text(), "busy");
    }
}
