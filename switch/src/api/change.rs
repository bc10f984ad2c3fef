//! What a change of the topology did, or would do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::difference::{Change, Difference, How, ObjectKind};

/// What a change of the topology did. The number beside it is that of the topology that is in force
/// now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeReport {
    /// Whether nothing was changed, since it was only asked what would be.
    pub(crate) is_dry_run: bool,
    #[serde(flatten)]
    pub(crate) difference: Difference,
    /// Files that have been edited, and that this change did not read: `POST /v1/reload` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) pending: Vec<PendingFile>,
}

impl ChangeReport {
    /// Whether a VM is there that was not.
    pub(crate) fn adds_vm(&self) -> bool {
        let is_added =
            |change: &Change| change.object == ObjectKind::Vm && change.change == How::Added;
        !self.is_dry_run && self.difference.changes.iter().any(is_added)
    }
}

/// A file of the topology that has been edited since it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PendingFile {
    pub(crate) file: String,
    pub(crate) edit: FileEdit,
}

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FileEdit {
    /// It has been written, or another has taken its place; what it says may be the same.
    Changed,
    /// It is included, and was not there.
    Added,
    /// It is gone.
    Removed,
}

impl FileEdit {
    /// The end of a sentence about the file.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Changed => "has been edited",
            Self::Added => "is new",
            Self::Removed => "is gone",
        }
    }
}
