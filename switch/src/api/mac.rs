//! The MAC table: `/v1/macs`.

use serde::{Deserialize, Serialize};

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MacReport {
    pub(crate) mac: String,
    pub(crate) network: String,
    pub(crate) port: String,
    /// `static`, `sticky` or `learned`.
    pub(crate) kind: String,
    /// Seconds since it last sent; none: it never ages.
    pub(crate) idle_s: Option<u32>,
    /// What is unusual about it. None: nothing.
    pub(crate) remark: Option<String>,
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
