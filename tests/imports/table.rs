//! Who may import whom. ARCHITECTURE.md says the same in words.

/// Crates: folder, name, and whom they may import.
pub(crate) const CRATES: &[(&str, &str, &[&str])] = &[
    ("config", "config", &["flowtable"]),
    ("flowtable", "flowtable", &[]),
    ("pmd", "pmd", &["flowtable"]),
    ("switch", "weir", &["config", "flowtable", "pmd"]),
];

/// Crates whose files import each other in circles still; what is found there is printed.
pub(crate) const NOT_IN_ORDER: &[&str] = &["pmd"];

/// Rooms of a crate, and which others each may import.
pub(crate) const ROOMS: &[(&str, &[(&str, &str)])] = &[
    (
        "weir",
        &[
            ("base", ""),
            ("api", ""),
            ("plan", ""),
            ("cli", "api base"),
            ("vhost_user", "plan api base pins"),
            ("device", "plan api base pins"),
            ("pins", "api base"),
            ("control", "vhost_user device pins plan api base"),
            ("daemon", "control vhost_user device pins plan base"),
            ("fuzzing", "vhost_user plan base"),
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
];
