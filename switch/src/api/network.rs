//! Networks: `/v1/networks`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Network)]
pub(crate) struct NetworkReport {
    pub(crate) name: String,
    /// Name of its uplink. Absent: frames stay on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) uplink: Option<String>,
    /// Tag on the uplink. Absent: untagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) vlan: Option<u16>,
    /// Largest payload of a frame, without the Ethernet header.
    pub(crate) mtu_bytes: u16,
    /// How many of its NICs are up, and how many it has.
    pub(crate) nics_up: usize,
    pub(crate) nics_total: usize,
}
