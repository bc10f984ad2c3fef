//! The status page, which is read with a browser where metrics are: `/`, and `/status.json`, from
//! which it has all that it shows.
//!
//! - `routes`: the two paths
//! - `document`: the page, one file that asks for nothing but the report; its policy
//! - `status`: the report; `shared`: one for all who ask within half a second
//! - `files/`: the page's parts, put together when the daemon is built

mod document;
pub(crate) mod routes;
mod shared;
mod status;
#[cfg(test)]
mod tests;
