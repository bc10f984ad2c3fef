//! The vhost-user front-end: negotiates features, hands over memory and rings, enables, stops,
//! resumes. Messages go through the `vhost` crate; what that crate can't say is a raw message.
//! Control only: rings are the driver's.

mod error;
mod socket;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures as Protocol};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::driver::GuestDriver;
use crate::memory::GuestMemory;
use crate::options::{Options, feature};
use crate::raw;
use crate::sys;

pub use error::FrontendError;
use error::{Doing, Result};
pub use socket::Socket;

/// How long a back-end may take to answer; after that the connection is closed.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Regions that SET_MEM_TABLE may name.
const TABLE_REGIONS: usize = 8;

/// How to speak vhost-user.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Ask for an answer to every message (REPLY_ACK).
    pub reply_ack: bool,
    /// Hand over memory region by region (CONFIGURE_MEM_SLOTS), as QEMU does if it can.
    pub mem_slots: bool,
    /// Give kick eventfds; without them the back-end has to poll.
    pub kicks: bool,
    /// Give call eventfds; without them the driver has to poll.
    pub calls: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            reply_ack: true,
            mem_slots: true,
            kicks: true,
            calls: true,
        }
    }
}

/// A connection to a back-end, features negotiated.
pub struct Session {
    frontend: Frontend,
    stream: UnixStream,
    manner: Manner,
    features: u64,
    protocol: Protocol,
    n_queue_pairs_offered: u64,
    kicks: Vec<EventFd>,
    calls: Vec<EventFd>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Session {{ features: {:#x}, protocol: {:#x} }}",
            self.features,
            self.protocol.bits()
        )
    }
}

impl Session {
    /// Negotiates: asks for what `options` want, and returns what the driver may have of it.
    ///
    /// # Errors
    /// If the back-end refuses, breaks the protocol or doesn't answer within [`ANSWER_WITHIN`].
    pub fn negotiate(
        stream: UnixStream,
        options: &Options,
        manner: Manner,
    ) -> Result<(Self, Options)> {
        let dup = stream.try_clone().doing("duplicating the socket")?;
        // The crate would take GET_QUEUE_NUM's answer (pairs) for the number of virtqueues: hence a
        // maximum of our own.
        let frontend = Frontend::from_stream(stream, 256);
        let (features, protocol) = (0, Protocol::empty());
        let (kicks, calls) = (Vec::new(), Vec::new());
        let mut session = Self {
            frontend,
            stream: dup,
            manner,
            features,
            protocol,
            n_queue_pairs_offered: 1,
            kicks,
            calls,
        };
        let options = session.guarded(|s| s.negotiate_features(options))?;
        Ok((session, options))
    }

    /// Hands over memory and rings and enables the rings, from where the used rings stand.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn start(&mut self, driver: &GuestDriver) -> Result<()> {
        self.set_up(driver)?;
        self.enable_all(driver)
    }

    /// The first half of [`start`](Self::start): hands over memory and rings.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn set_up(&mut self, driver: &GuestDriver) -> Result<()> {
        let n = driver.n_vrings();
        self.guarded(|s| {
            s.share_memory(driver.memory())?;
            s.make_eventfds(n)?;
            (0..n).try_for_each(|vring| s.set_up_vring(driver, vring, driver.vring_base(vring)))
        })
    }

    /// The second half of [`start`](Self::start): enables the rings.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn enable_all(&mut self, driver: &GuestDriver) -> Result<()> {
        let n = driver.n_vrings();
        self.guarded(|s| (0..n).try_for_each(|vring| s.enable(vring, true)))
    }

    /// Hands over memory: one message a region, or one for all.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate); also for memory that isn't a memfd.
    pub fn share_memory(&mut self, memory: &GuestMemory) -> Result<()> {
        let regions = region_infos(memory)?;
        if self.manner.mem_slots && self.protocol.contains(Protocol::CONFIGURE_MEM_SLOTS) {
            let slots = self
                .frontend
                .get_max_mem_slots()
                .doing("GET_MAX_MEM_SLOTS")?;
            if slots < regions.len() as u64 {
                return Err(format!("{} regions, but only {slots} slots", regions.len()))
                    .doing("ADD_MEM_REG");
            }
            return regions.iter().try_for_each(|r| {
                self.frontend
                    .add_mem_region(r)
                    .map(drop)
                    .doing("ADD_MEM_REG")
            });
        }
        if regions.len() > TABLE_REGIONS {
            return Err(format!("{} regions without memory slots", regions.len()))
                .doing("SET_MEM_TABLE");
        }
        self.frontend
            .set_mem_table(&regions)
            .map(drop)
            .doing("SET_MEM_TABLE")
    }

    /// Size, base, addresses and eventfds of one virtqueue.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn set_up_vring(&mut self, driver: &GuestDriver, vring: usize, base: u16) -> Result<()> {
        let (size, at) = (driver.vring_size(vring), driver.vring_uva(vring));
        let config = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            flags: 0,
            desc_table_addr: at.desc,
            used_ring_addr: at.used,
            avail_ring_addr: at.avail,
            log_addr: None,
        };
        let frontend = &mut self.frontend;
        frontend.set_vring_num(vring, size).doing("SET_VRING_NUM")?;
        frontend
            .set_vring_base(vring, base)
            .doing("SET_VRING_BASE")?;
        frontend
            .set_vring_addr(vring, &config)
            .doing("SET_VRING_ADDR")?;
        if self.manner.calls {
            frontend
                .set_vring_call(vring, &self.calls[vring])
                .doing("SET_VRING_CALL")?;
        } else {
            self.without_fd(raw::request::SET_VRING_CALL, vring)?;
        }
        if self.manner.kicks {
            self.frontend
                .set_vring_kick(vring, &self.kicks[vring])
                .doing("SET_VRING_KICK")
        } else {
            self.without_fd(raw::request::SET_VRING_KICK, vring)
        }
    }

    /// Enables or disables a virtqueue. Without protocol features rings are enabled by their kick,
    /// and nothing is said.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn enable(&mut self, vring: usize, on: bool) -> Result<()> {
        if self.features & feature::PROTOCOL_FEATURES == 0 {
            return Ok(());
        }
        self.frontend
            .set_vring_enable(vring, on)
            .doing("SET_VRING_ENABLE")
    }

    /// Stops all virtqueues and returns where the back-end stands in each.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate).
    pub fn stop(&mut self, driver: &GuestDriver) -> Result<Vec<u16>> {
        let n = driver.n_vrings();
        self.guarded(|s| {
            (0..n).try_for_each(|vring| s.enable(vring, false))?;
            (0..n).map(|vring| s.stop_vring(vring)).collect()
        })
    }

    /// Stops one virtqueue; returns the back-end's index in it.
    ///
    /// # Errors
    /// As for [`negotiate`](Self::negotiate), or an index over 16 bits.
    pub fn stop_vring(&mut self, vring: usize) -> Result<u16> {
        let base = self
            .frontend
            .get_vring_base(vring)
            .doing("GET_VRING_BASE")?;
        u16::try_from(base).doing("GET_VRING_BASE")
    }

    /// Negotiated feature bits, [`feature::PROTOCOL_FEATURES`] included.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Negotiated protocol feature bits.
    pub fn protocol_features(&self) -> u64 {
        self.protocol.bits()
    }

    /// Queue pairs that the back-end offers.
    pub fn n_queue_pairs_offered(&self) -> u64 {
        self.n_queue_pairs_offered
    }

    /// The connection, for raw messages.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The crate's end of it, for anything else.
    pub fn frontend(&mut self) -> &mut Frontend {
        &mut self.frontend
    }

    /// Tells the back-end that chains are available.
    pub fn kick(&self, vring: usize) {
        // A counter that is full is a kick already.
        let _ = self.kicks[vring].write(1);
    }

    /// A virtqueue's call eventfd, to wait on.
    pub fn call_fd(&self, vring: usize) -> RawFd {
        self.calls[vring].as_raw_fd()
    }

    /// Calls since the last time, and none from now.
    pub fn take_calls(&self, vring: usize) -> u64 {
        self.calls[vring].read().unwrap_or(0)
    }

    /// Misbehaves: fills the counter of a virtqueue's call eventfd and makes that file block
    /// whoever writes to it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn clog_call(&self, vring: usize) -> io::Result<()> {
        let call = &self.calls[vring];
        loop {
            let _ = call.read();
            match call.write(u64::MAX - 1) {
                // The back-end has called in between.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        }
        sys::make_blocking(call.as_raw_fd())
    }

    /// Whether the back-end has closed the connection.
    pub fn is_gone(&self) -> bool {
        sys::is_hung_up(&self.stream)
    }

    fn negotiate_features(&mut self, options: &Options) -> Result<Options> {
        let offered = self.frontend.get_features().doing("GET_FEATURES")?;
        self.frontend.set_owner().doing("SET_OWNER")?;
        if offered & feature::PROTOCOL_FEATURES != 0 {
            self.negotiate_protocol()?;
        }
        let mut options = options.clone().limited_to(offered);
        let most = u16::try_from(self.n_queue_pairs_offered)
            .unwrap_or(u16::MAX)
            .max(1);
        options.n_queue_pairs = options.n_queue_pairs.min(most);
        self.features = options.features() | (offered & feature::PROTOCOL_FEATURES);
        self.frontend
            .set_features(self.features)
            .doing("SET_FEATURES")?;
        Ok(options)
    }

    fn negotiate_protocol(&mut self) -> Result<()> {
        let offered = self
            .frontend
            .get_protocol_features()
            .doing("GET_PROTOCOL_FEATURES")?;
        let mut wanted = Protocol::MQ;
        wanted.set(Protocol::REPLY_ACK, self.manner.reply_ack);
        wanted.set(Protocol::CONFIGURE_MEM_SLOTS, self.manner.mem_slots);
        self.protocol = offered & wanted;
        self.frontend
            .set_protocol_features(self.protocol)
            .doing("SET_PROTOCOL_FEATURES")?;
        if self.protocol.contains(Protocol::REPLY_ACK) {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if self.protocol.contains(Protocol::MQ) {
            let answer = raw::ask_u64(&self.stream, raw::request::GET_QUEUE_NUM);
            self.n_queue_pairs_offered = answer.doing("GET_QUEUE_NUM")?;
        }
        Ok(())
    }

    /// Goes on with the eventfds of an earlier session, so that a kick it never saw isn't lost.
    pub(crate) fn inherit(&mut self, earlier: Self) {
        (self.kicks, self.calls) = (earlier.kicks, earlier.calls);
    }

    fn make_eventfds(&mut self, n: usize) -> Result<()> {
        if self.kicks.len() == n {
            return Ok(());
        }
        let fds = || {
            (0..n)
                .map(|_| EventFd::new(EFD_NONBLOCK))
                .collect::<io::Result<Vec<_>>>()
        };
        (self.kicks, self.calls) = (fds().doing("eventfd")?, fds().doing("eventfd")?);
        Ok(())
    }

    /// SET_VRING_KICK or SET_VRING_CALL with the bit that says there is none.
    fn without_fd(&self, request: u32, vring: usize) -> Result<()> {
        let acked = self.protocol.contains(Protocol::REPLY_ACK);
        let payload = (vring as u64 | 0x100).to_le_bytes();
        let message = raw::Message::new(request, &payload).need_reply(acked);
        message
            .send(&self.stream)
            .doing("sending a vring without an fd")?;
        if !acked {
            return Ok(());
        }
        match raw::read_reply(&self.stream).doing("a vring without an fd")? {
            (_, body) if body.iter().all(|&b| b == 0) => Ok(()),
            (_, body) => Err(format!("refused: {body:?}")).doing("a vring without an fd"),
        }
    }

    /// Runs `work`, and shuts the connection down if that takes longer than [`ANSWER_WITHIN`], so
    /// that it fails.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let stream = self.stream.try_clone().doing("duplicating the socket")?;
        let (done, waiting) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if waiting.recv_timeout(ANSWER_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        let result = work(self);
        drop(done);
        result
    }
}

/// The regions as the crate wants them.
///
/// # Errors
/// For memory that isn't a memfd.
pub fn region_infos(memory: &GuestMemory) -> Result<Vec<VhostUserMemoryRegionInfo>> {
    let file = memory
        .file()
        .ok_or("memory is on the heap, a memfd is needed")
        .doing("sharing memory")?;
    let info = |region: &crate::memory::Region| VhostUserMemoryRegionInfo {
        guest_phys_addr: region.spec().gpa,
        memory_size: region.spec().len,
        userspace_addr: region.spec().uva,
        mmap_offset: region.spec().file_offset,
        mmap_handle: file.as_raw_fd(),
    };
    Ok(memory.regions().iter().map(info).collect())
}
