//! A guest behind a socket: driver and connection together, and what happens when the back-end goes
//! and comes back.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::driver::GuestDriver;
use crate::frontend::{FrontendError, Manner, Session, Socket};
use crate::options::{Backing, Options};
use crate::sys;

/// A driver, plugged in.
#[derive(Debug)]
pub struct Guest {
    /// The driver's half of the rings.
    pub driver: GuestDriver,
    socket: Socket,
    manner: Manner,
    session: Session,
    n_connects: u64,
}

impl Guest {
    /// Connects (or is connected to), negotiates, makes memory and rings, posts all receive
    /// buffers, and starts.
    ///
    /// # Errors
    /// If no back-end comes within `timeout`, or it refuses.
    pub fn open(
        socket: Socket,
        options: Options,
        manner: Manner,
        timeout: Duration,
    ) -> Result<Self, FrontendError> {
        let mut guest = Self::negotiate(socket, options, manner, timeout)?;
        for pair in 0..usize::from(guest.driver.options().n_queue_pairs) {
            guest.driver.post_rx(pair);
        }
        guest.start()?;
        Ok(guest)
    }

    /// As [`open`](Self::open), without posting and starting: rings may still be filled or taken
    /// over.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn negotiate(
        socket: Socket,
        mut options: Options,
        manner: Manner,
        timeout: Duration,
    ) -> Result<Self, FrontendError> {
        if options.layout.backing == Backing::Heap {
            options.layout.backing = Backing::Memfd;
        }
        let stream = socket.open(timeout).map_err(FrontendError::connecting)?;
        let (session, options) = Session::negotiate(stream, &options, manner)?;
        let driver = GuestDriver::new(options).map_err(FrontendError::memory)?;
        Ok(Self {
            driver,
            socket,
            manner,
            session,
            n_connects: 1,
        })
    }

    /// Hands memory and rings over and enables them.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn start(&mut self) -> Result<(), FrontendError> {
        self.session.start(&self.driver)
    }

    /// The first half of [`start`](Self::start): hands memory and rings over.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn set_up(&mut self) -> Result<(), FrontendError> {
        self.session.set_up(&self.driver)
    }

    /// The second half of [`start`](Self::start): enables the rings.
    ///
    /// # Errors
    /// If the back-end refuses.
    pub fn enable(&mut self) -> Result<(), FrontendError> {
        self.session.enable_all(&self.driver)
    }

    /// The connection.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Connections so far.
    pub fn n_connects(&self) -> u64 {
        self.n_connects
    }

    /// Whether the back-end is gone.
    pub fn is_gone(&self) -> bool {
        self.session.is_gone()
    }

    /// Connects again and resumes with the same memory and rings, each from its used index, as QEMU
    /// does after a crash of the back-end. Chains in flight are handled by the new one.
    ///
    /// # Errors
    /// As for [`open`](Self::open); also if the back-end now offers less than was negotiated.
    pub fn reconnect(&mut self, timeout: Duration) -> Result<(), FrontendError> {
        let stream = self
            .socket
            .open(timeout)
            .map_err(FrontendError::connecting)?;
        let had = self.session.features();
        let (session, _) = Session::negotiate(stream, self.driver.options(), self.manner)?;
        if session.features() != had {
            return Err(FrontendError::features(had, session.features()));
        }
        let earlier = std::mem::replace(&mut self.session, session);
        self.session.inherit(earlier);
        self.session.start(&self.driver)?;
        self.n_connects += 1;
        Ok(())
    }

    /// Sends a frame; kicks if the back-end wants that. False if there is no room.
    pub fn send(&mut self, pair: usize, frame: &[u8]) -> bool {
        let sent = self.driver.send(pair, frame);
        self.kick_if_due(2 * pair + 1);
        sent
    }

    /// Takes a received frame and posts its buffers again.
    pub fn recv(&mut self, pair: usize) -> Option<Vec<u8>> {
        let frame = self.driver.recv(pair)?;
        if self.driver.post_rx(pair) > 0 {
            self.kick_if_due(2 * pair);
        }
        Some(frame)
    }

    /// Kicks a virtqueue if the back-end wants that for what was published.
    pub fn kick_if_due(&mut self, vring: usize) {
        if self.driver.kick_due(vring) {
            self.session.kick(vring);
        }
    }

    /// Sleeps until a frame is received, the back-end goes, or the time is over. True if there may
    /// be something to do.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let pairs = 0..usize::from(self.driver.options().n_queue_pairs);
        if pairs.clone().fold(false, |any, pair| {
            self.driver.ask_calls(2 * pair, true) | any
        }) {
            return true;
        }
        let mut fds: Vec<RawFd> = pairs
            .clone()
            .map(|pair| self.session.call_fd(2 * pair))
            .collect();
        fds.push(self.session.stream().as_raw_fd());
        let woken = sys::wait_readable(&fds, timeout).is_ok_and(|ready| ready.contains(&true));
        for pair in pairs {
            self.session.take_calls(2 * pair);
            self.driver.ask_calls(2 * pair, false);
        }
        woken
    }

    /// Stops all rings in an orderly way.
    ///
    /// # Errors
    /// If the back-end doesn't answer, or stands elsewhere than its used index says.
    pub fn stop(&mut self) -> Result<(), FrontendError> {
        let bases = self.session.stop(&self.driver)?;
        for (vring, base) in bases.into_iter().enumerate() {
            let used = self.driver.vring_base(vring);
            if base != used {
                return Err(FrontendError::base(vring, base, used));
            }
        }
        Ok(())
    }
}
