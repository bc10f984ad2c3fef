//! AF_XDP ports and taps on real devices: veth pairs between network namespaces that the tests make
//! and remove. They need root, and say so where they are skipped; in CI (CI=true) they fail
//! instead.
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod bare;
mod figures;
mod moves;
mod passing;
mod world;
