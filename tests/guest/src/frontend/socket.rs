//! The socket of a port, by either role.

use super::*;

/// Which end of the socket opens it.
#[derive(Debug)]
pub enum Socket {
    /// The back-end listens at this path.
    Connect(PathBuf),
    /// The back-end connects to us.
    Listen(UnixListener),
}

impl Socket {
    /// Listens at `path`, over whatever stale socket is there.
    ///
    /// # Errors
    /// If the path can't be bound.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Listen(listener))
    }

    /// One connection; waits for the other end until `timeout`.
    ///
    /// # Errors
    /// If there is none by then.
    pub fn open(&self, timeout: Duration) -> io::Result<UnixStream> {
        let deadline = Instant::now() + timeout;
        loop {
            let opened = match self {
                Self::Connect(path) => UnixStream::connect(path),
                Self::Listen(listener) => listener.accept().map(|(stream, _)| stream),
            };
            match opened {
                Ok(stream) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(e) if Instant::now() >= deadline || sys::stopped() => return Err(e),
                Err(_) => self.wait()?,
            }
        }
    }

    /// A listener wakes up when somebody connects; for a path there is nothing to wait on but time.
    fn wait(&self) -> io::Result<()> {
        let fds: Vec<RawFd> = match self {
            Self::Connect(_) => vec![],
            Self::Listen(listener) => vec![listener.as_raw_fd()],
        };
        sys::wait_readable(&fds, Duration::from_millis(10)).map(drop)
    }
}
