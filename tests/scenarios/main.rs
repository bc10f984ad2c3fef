//! Scenarios of the whole switch, in memory, on virtual time, from seeds.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod addresses;
mod blocking;
mod cores;
mod damaged;
mod disabled;
mod flood_budget;
mod floods;
mod forwarding;
mod hostile;
mod lifecycle;
mod limit_queues;
mod live;
mod long_chains;
mod moves;
mod neighbours;
mod paging;
mod random;
mod rates;
mod rules;
mod small_pages;
mod threads;
mod turns;
mod uplinks;
mod waiting;
