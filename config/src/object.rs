//! What a topology is made of.

/// What a topology is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// The daemon: the keys that belong to nothing else.
    Daemon,
    /// An uplink.
    Uplink,
    /// A network.
    Network,
    /// A VM.
    Vm,
    /// A NIC of a VM.
    Nic,
}

impl ObjectKind {
    /// Where such objects are in the file, as in `vms.NAME`.
    pub fn path(self) -> &'static str {
        match self {
            Self::Daemon => "",
            Self::Uplink => "uplinks.NAME",
            Self::Network => "networks.NAME",
            Self::Vm => "vms.NAME",
            Self::Nic => "vms.NAME.nics.NAME",
        }
    }

    /// The path of one of its settings, as [`crate::key_paths`] lists it.
    pub fn path_of(self, key: &str) -> String {
        // The names of labels are the user's.
        let key = match key.split_once('.') {
            Some(("labels", _)) if self == Self::Vm => "labels.NAME",
            _ => key,
        };
        match self.path() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}
