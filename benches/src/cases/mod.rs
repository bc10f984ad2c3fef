//! Every case, by what it measures. A name is `room/case`.

mod burst;
mod case;
mod copy;
mod flowtable;
mod limiter;
mod lookup;

use case::by_bursts;
pub use case::{Case, Run};

/// All there are, none of them set up yet.
pub fn all() -> Vec<Case> {
    [
        burst::cases(),
        copy::cases(),
        flowtable::cases(),
        lookup::cases(),
        limiter::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
