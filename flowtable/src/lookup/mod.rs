//! From headers to actions: caches first, then the slow path.

mod context;
pub mod decide;
mod foresee;
mod slow_path;
