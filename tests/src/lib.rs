//! Whole-switch scenarios.
