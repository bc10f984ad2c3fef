//! Requests on the control socket. Whatever comes, a client is answered with a report or with a
//! sentence that can be printed, and nothing is changed.

/// A head has at most 16 KiB; a longer one is refused, and the same again.
const BYTES_MAX: usize = 20 << 10;

/// Runs one input: as a method and a target in its first line with a body behind it, and as all
/// that a client sends.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(BYTES_MAX)];
    weir::fuzzing::request(data);
    weir::fuzzing::converse(data);
}
