//! Capabilities that devices require.

use rustix::thread::{CapabilitySet, capabilities};

/// How to grant them.
pub(crate) const HELP: &str = "run weir as root, or give its service \
    AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_IPC_LOCK";

/// Checks that this process has the capabilities that devices require.
///
/// CAP_IPC_LOCK is not checked: a large enough limit of locked memory will do, and registering
/// memory fails where it is too small.
///
/// # Errors
/// A sentence that names all capabilities that are missing.
pub(crate) fn check() -> Result<(), String> {
    let held = capabilities(None)
        .map_err(|e| format!("cannot read this process's capabilities: {e}"))?
        .effective;
    match missing(held).as_slice() {
        [] => Ok(()),
        missing => Err(format!(
            "devices need {}, which this process lacks: {HELP}",
            missing.join(" and ")
        )),
    }
}

fn missing(held: CapabilitySet) -> Vec<&'static str> {
    // CAP_SYS_ADMIN implies CAP_BPF.
    let may_load = held.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN);
    let needed = [
        ("CAP_NET_RAW", held.contains(CapabilitySet::NET_RAW)),
        ("CAP_NET_ADMIN", held.contains(CapabilitySet::NET_ADMIN)),
        ("CAP_BPF", may_load),
    ];
    needed
        .into_iter()
        .filter(|(_, is_held)| !is_held)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named() {
        let all = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
        assert!(missing(all).is_empty());
        assert_eq!(missing(all - CapabilitySet::NET_RAW), ["CAP_NET_RAW"]);
        assert_eq!(missing(all - CapabilitySet::NET_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(all - CapabilitySet::BPF), ["CAP_BPF"]);
        assert!(missing((all - CapabilitySet::BPF) | CapabilitySet::SYS_ADMIN).is_empty());
        assert_eq!(missing(CapabilitySet::empty()).len(), 3);
    }
}
