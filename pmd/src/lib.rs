//! What a polling core does.
