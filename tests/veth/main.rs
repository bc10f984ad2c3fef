//! AF_XDP ports and taps on real devices: veth pairs between network namespaces that the tests make and remove. They need root,
//! and say so where they are skipped; in CI (CI=true) they fail instead.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod figures;
mod passing;
mod world;
