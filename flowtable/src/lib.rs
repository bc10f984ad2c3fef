//! Header bytes to action.
#![forbid(unsafe_code)]
