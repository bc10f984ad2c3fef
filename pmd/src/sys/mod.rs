//! Every system call and machine instruction that the rest of the crate needs, thinly. Safe
//! functions outside, the reason why they are safe inside.
//!
//! - `clock`: the cycle counter, the kernel's clocks
//! - `event`: eventfds; `signal`: another's, signalled without waiting
//! - `epoll`: what a core sleeps in
//! - `files`: how many there may be, what is known of one; `socket`: Unix sockets
//! - `memory`: mappings; `userfault`: pages that are not there
//! - [`bpf`]: the XDP program of an uplink; [`xdp`]: AF_XDP sockets
//! - [`link`]: network devices; `tun`: taps

pub mod bpf;
mod clock;
mod epoll;
mod event;
mod files;
pub mod link;
mod memory;
mod signal;
mod socket;
#[cfg(all(test, not(miri)))]
pub(crate) mod test_support;
pub(crate) mod tun;
pub(crate) mod userfault;
pub mod xdp;

pub use clock::{cpu_is_new_enough, cycles, monotonic_ns, thread_cpu_ns};
pub use epoll::Epoll;
pub use event::{EventFd, is_eventfd, prepare_signals};
pub(crate) use files::{FileFacts, file_facts};
pub use files::{FileId, is_in_memory, raise_open_files};
pub use memory::settle;
pub(crate) use memory::{map_shared, prefault, unmap};
pub use socket::{peer_process, refuse_files};
