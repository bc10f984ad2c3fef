//! The MAC table: `/v1/macs`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An address in the MAC table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Mac)]
pub(crate) struct MacReport {
    pub(crate) mac: String,
    pub(crate) network: String,
    /// Name of the port that has it.
    pub(crate) port: String,
    pub(crate) kind: MacKind,
    /// Since it last sent. Absent: it never ages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) idle_seconds: Option<u32>,
    /// What is unusual about it. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) conflict: Option<MacConflict>,
    /// The conflict for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) sentence: Option<String>,
}

/// How an address came into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MacKind {
    /// From the topology.
    Static,
    /// The first that its port sent from.
    Sticky,
    /// The port sent from it.
    Learned,
}

impl MacKind {
    /// As it is in JSON.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Sticky => "sticky",
            Self::Learned => "learned",
        }
    }
}

/// Two ports and one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MacConflict {
    /// It is another port's, which is not started.
    Away,
    /// It is another port's, which lost it.
    Lost,
    /// Another port has sent from it since.
    Disputed,
}

/// An address as people write it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        assert_eq!(mac_text([0x52, 0x54, 0, 0, 0, 0xa]), "52:54:00:00:00:0a");
    }
}
