//! What operators are told: values with a fixed shape in JSON.

pub(crate) mod uplink;
