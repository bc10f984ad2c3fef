//! From headers to actions: what is remembered first, then the slow path.

mod context;
pub mod decide;
mod foresee;
mod slow_path;
