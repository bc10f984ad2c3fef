//! Text of the topology file to checked values.
#![forbid(unsafe_code)]
