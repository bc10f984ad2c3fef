//! The program: `/v1/version`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Version)]
pub(crate) struct VersionReport {
    pub(crate) program: String,
    pub(crate) version: String,
    /// Version of this API.
    pub(crate) api: u32,
    pub(crate) pid: u32,
    /// When the daemon started, by the host's clock, as in RFC 3339.
    #[schema(format = DateTime)]
    pub(crate) started_at: String,
    pub(crate) uptime_seconds: u64,
}
