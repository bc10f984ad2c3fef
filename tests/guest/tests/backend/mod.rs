//! What the front-end is tested against.

mod echo;

pub(crate) use echo::{Served, serve};
