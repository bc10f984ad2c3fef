//! Changes of the topology that operators ask for: what they ask, and why it is refused.

use std::fmt::Debug;

use axum::http::StatusCode;
use config::{Diagnostic, NoVmFile, Report, Topology};

use super::answer::Refused;
use super::routes::help_for_vm;
use crate::api::change::{ChangeReport, FileEdit};
use crate::api::problem::{Code, Mistake};

/// What changes the topology: the daemon. One change comes after another.
pub(crate) trait Changes: Debug + Send + Sync {
    /// Does what is asked, whole or not at all; may take seconds.
    ///
    /// # Errors
    /// [`NotChanged`]: all is as it was then.
    fn change(&self, asked: &Asked) -> Result<Changed, NotChanged>;
}

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) wanted: Wanted,
    /// It is only asked what would be changed.
    pub(crate) is_dry_run: bool,
    /// Number of the topology that must be in force; none: any.
    pub(crate) topology: Option<u64>,
}

/// What is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What the topology's files say now.
    Reload,
    /// This VM as the body describes it, beside all others as they are. `is_new`: only if there is
    /// none of this name.
    Vm {
        name: String,
        body: String,
        is_new: bool,
    },
    /// All but this VM.
    NoVm { name: String },
    /// This VM with another limit: the body has what is different.
    Limit { name: String, body: String },
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Number of the topology that is in force now.
    pub(crate) topology: u64,
    pub(crate) report: ChangeReport,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotChanged {
    /// The topology would have mistakes.
    Mistakes(Report),
    /// These keys can't be changed while the daemon runs: a sentence for each.
    NeedsRestart(Vec<String>),
    /// This host doesn't allow it: a sentence for each reason.
    Unable(Vec<String>),
    /// The VM's file is not to be written.
    NoFile(NoVmFile),
    /// The VM's file has been edited since it was read.
    Edited { file: String, how: FileEdit },
    /// The VM's file can't be written: a sentence. `is_full`: for want of room.
    CannotWrite { why: String, is_full: bool },
    /// There is no such VM.
    NoSuchVm { name: String, help: String },
    /// There is such a VM already.
    VmExists { name: String },
    /// Another topology is in force, with this number.
    Topology { expected: u64, found: u64 },
    /// The daemon ends.
    Ending,
}

impl NotChanged {
    /// There is no VM of this name in the topology that runs.
    pub(crate) fn no_vm(name: &str, running: &Topology) -> Self {
        let known = running.vms.iter().map(|vm| vm.name.as_str());
        Self::NoSuchVm {
            name: name.to_owned(),
            help: help_for_vm(name, known),
        }
    }
}

impl From<NotChanged> for Refused {
    fn from(why: NotChanged) -> Self {
        use StatusCode as Status;
        match why {
            NotChanged::Mistakes(report) => mistaken(&report),
            NotChanged::NeedsRestart(why) => several(Status::CONFLICT, Code::NeedsRestart, &why),
            NotChanged::Unable(why) => several(Status::CONFLICT, Code::Unable, &why),
            NotChanged::NoFile(why) => no_file(&why),
            NotChanged::Edited { file, how } => {
                let why = format!(
                    "{file} {} since it was read: reload puts it in force; then ask again",
                    how.text()
                );
                Self::new(Status::CONFLICT, Code::Edited, why).at("vm")
            }
            NotChanged::CannotWrite { why, is_full } => {
                let status = match is_full {
                    true => Status::INSUFFICIENT_STORAGE,
                    false => Status::CONFLICT,
                };
                Self::new(status, Code::CannotWrite, why)
            }
            NotChanged::NoSuchVm { name, help } => {
                let why = format!("there is no VM {name}: {help}");
                Self::new(Status::NOT_FOUND, Code::NoSuchVm, why).at("vm")
            }
            NotChanged::VmExists { name } => {
                let why = format!("there is a VM {name} already");
                Self::new(Status::PRECONDITION_FAILED, Code::VmExists, why).at("If-None-Match")
            }
            NotChanged::Topology { expected, found } => {
                let why = format!(
                    "topology {found} is in force, and not {expected}: look at what has changed, \
                    and ask again"
                );
                Self::new(Status::PRECONDITION_FAILED, Code::TopologyChanged, why).at("If-Match")
            }
            NotChanged::Ending => Self::new(
                Status::SERVICE_UNAVAILABLE,
                Code::Ending,
                "the daemon ends: nothing is changed any more",
            ),
        }
    }
}

fn several(status: StatusCode, code: Code, why: &[String]) -> Refused {
    let refused = Refused::new(status, code, why.join("; "));
    refused.with_report(format!("error: {}", why.join("\nerror: ")))
}

fn no_file(why: &NoVmFile) -> Refused {
    let (status, code) = match why {
        NoVmFile::NoName { .. } => (StatusCode::BAD_REQUEST, Code::BadValue),
        NoVmFile::NotIncluded { .. } => (StatusCode::CONFLICT, Code::NotIncluded),
        NoVmFile::Elsewhere { .. } | NoVmFile::Shared { .. } => {
            (StatusCode::CONFLICT, Code::Elsewhere)
        }
        NoVmFile::Edited { .. } => (StatusCode::CONFLICT, Code::Edited),
    };
    Refused::new(status, code, why.to_string()).at("vm")
}

fn mistaken(report: &Report) -> Refused {
    let all = report.diagnostics();
    let more = match all.len() {
        0 | 1 => String::new(),
        2 => " (and one more mistake)".to_owned(),
        n => format!(" (and {} more mistakes)", n - 1),
    };
    let first = all.first().map_or_else(String::new, |first| {
        let place = match first.line() {
            0 => first.file().to_owned(),
            line => format!("{}:{line}:{}", first.file(), first.column()),
        };
        format!("{place}: {}: {}", first.message(), first.help())
    });
    let code = Code::InvalidTopology;
    Refused::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        code,
        format!("{first}{more}"),
    )
    .with_mistakes(all.iter().map(mistake).collect())
    .with_report(report.to_string())
}

fn mistake(diagnostic: &Diagnostic) -> Mistake {
    let number = |n: usize| (n > 0).then_some(n);
    Mistake {
        file: diagnostic.file().to_owned(),
        line: number(diagnostic.line()),
        column: number(diagnostic.column()),
        message: diagnostic.message().to_owned(),
        help: diagnostic.help().to_owned(),
    }
}
