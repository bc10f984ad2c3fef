//! `show networks`.

use crate::api::network::NetworkReport;
use crate::cli::format::align;

/// `show networks`.
pub(crate) fn networks(networks: &[NetworkReport]) -> String {
    let mut rows = vec![
        ["NETWORK", "UPLINK", "VLAN", "MTU", "NICS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(networks.iter().map(|network| {
        vec![
            network.name.clone(),
            network.uplink.clone().unwrap_or_else(|| "-".to_owned()),
            network
                .vlan
                .map_or_else(|| "-".to_owned(), |vlan| vlan.to_string()),
            network.mtu_bytes.to_string(),
            format!("{}/{}", network.nics_up, network.nics_total),
        ]
    }));
    align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_line_each() {
        let blue = NetworkReport {
            name: "blue".to_owned(),
            uplink: Some("up0".to_owned()),
            vlan: Some(100),
            mtu_bytes: 1500,
            nics_up: 1,
            nics_total: 2,
        };
        let red = NetworkReport {
            name: "red".to_owned(),
            uplink: None,
            vlan: None,
            ..blue.clone()
        };
        let text = networks(&[blue, red]);
        assert!(
            text.ends_with("blue     up0     100   1500  1/2\nred      -       -     1500  1/2\n"),
            "{text}"
        );
    }
}
