//! The program: `/v1/version`.

use serde::{Deserialize, Serialize};

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionReport {
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
}
