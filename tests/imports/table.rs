//! Who may import whom. ARCHITECTURE.md says the same in words.

/// Crates: folder, name, and whom they may import.
pub(crate) const CRATES: &[(&str, &str, &[&str])] = &[
    ("config", "config", &["flowtable"]),
    ("flowtable", "flowtable", &[]),
    ("pmd", "pmd", &["flowtable"]),
    ("switch", "weir", &["config", "flowtable", "pmd"]),
];

/// Rooms of a crate, and which others each may import.
pub(crate) const ROOMS: &[(&str, &[(&str, &str)])] = &[
    (
        "weir",
        &[
            ("base", ""),
            ("api", ""),
            ("plan", "api base"),
            ("cli", "api base"),
            ("vhost_user", "plan api base pins"),
            ("device", "plan api base pins"),
            ("pins", "plan api base"),
            ("control", "vhost_user device pins plan api base"),
            ("page", "control api base"),
            (
                "daemon",
                "page control vhost_user device pins plan api base",
            ),
            ("fuzzing", "control vhost_user plan api base"),
        ],
    ),
    (
        "flowtable",
        &[
            ("ids", ""),
            ("memory", ""),
            ("action", "ids"),
            ("wire", ""),
            ("rules", "wire"),
            ("network", "ids action wire rules"),
            ("mac", "ids memory wire network"),
            ("cache", "ids memory action wire network mac"),
            ("lookup", "ids memory action wire rules network mac cache"),
        ],
    ),
    (
        "pmd",
        &[
            ("amount", ""),
            ("error", ""),
            ("lock", ""),
            ("sys", "error"),
            ("time", "lock sys"),
            ("shm", "error lock sys"),
            ("calls", "error lock sys"),
            ("virtio_net", "amount shm"),
            ("ring", "error lock sys shm calls"),
            ("stats", "error time"),
            ("page_faults", "sys time"),
            ("burst", "amount shm virtio_net ring"),
            ("blocked", "time"),
            ("limit", "amount lock time shm virtio_net ring stats burst"),
            (
                "port",
                "amount error lock sys time shm virtio_net ring stats page_faults burst blocked \
                 limit",
            ),
            (
                "send",
                "amount time ring stats page_faults burst blocked limit port",
            ),
            (
                "poll",
                "amount error sys time shm ring stats page_faults burst blocked limit port send",
            ),
            ("control", "error lock sys time calls stats limit port poll"),
        ],
    ),
];

/// Where a module of the crate `weir` stood before it had rooms, and the room that it is in now;
/// for checkouts of that time.
pub(crate) const BEFORE_ROOMS: &[(&str, &str)] = &[
    ("operator", "cli"),
    ("table", "cli"),
    ("top", "cli"),
    ("report", "api"),
    ("loads", "control"),
    ("flows", "control"),
    ("vms", "control"),
    ("launch", "daemon"),
    ("poller", "daemon"),
    ("cpus", "daemon"),
    ("run_dir", "daemon"),
    ("supervisor", "daemon"),
    ("rules", "plan"),
    ("port", "vhost_user"),
    ("plane", "vhost_user"),
    ("uplink", "device"),
    ("netlink", "device"),
    ("notes", "base"),
    ("stop", "base"),
    ("http", "base"),
];
