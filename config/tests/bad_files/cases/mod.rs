//! One mistake each, or a few: what stands where, and what is found.

mod host;
mod limits;
mod networks;
mod text;
mod vms;

use crate::{Expected, In};

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static (In, &'static [Expected])> {
    [
        text::TEXT,
        host::HOST,
        networks::NETWORKS,
        limits::LIMITS,
        vms::VMS,
    ]
    .into_iter()
    .flatten()
}
