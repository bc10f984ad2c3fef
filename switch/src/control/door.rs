//! Where clients come in: the control socket, or the address of metrics; both can be exchanged for
//! others while a server runs.

use std::fmt::Debug;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::base::socket::Listening;
use crate::base::tcp::TcpListening;

/// A client's stream.
pub(crate) trait Client: AsyncRead + AsyncWrite + Debug + Unpin + 'static {
    /// Writes what fits now.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Client for UnixStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        UnixStream::try_write(self, bytes)
    }
}

impl Client for TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }
}

/// A listening socket that a server's thread waits for.
pub(crate) trait Door: Debug + Sized + 'static {
    type Client: Client;
    /// The socket before that.
    type Listening;

    /// Needs a runtime around it.
    ///
    /// # Errors
    /// The process has no more files.
    fn new(listening: Self::Listening) -> io::Result<Self>;

    /// Waits for the next client.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Client>>;

    /// A client that has connected already; none: there is none, or it can't be served.
    fn accept_now(&self) -> Option<Self::Client>;
}

/// The control socket.
#[derive(Debug)]
pub(crate) struct ControlDoor {
    waited: UnixListener,
    listening: Listening,
}

/// The address of metrics.
#[derive(Debug)]
pub(crate) struct MetricsDoor {
    waited: TcpListener,
    listening: TcpListening,
}

impl Door for ControlDoor {
    type Client = UnixStream;
    type Listening = Listening;

    fn new(listening: Listening) -> io::Result<Self> {
        let waited = UnixListener::from_std(listening.listener().try_clone()?)?;
        Ok(Self { waited, listening })
    }

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.waited.accept().await?.0)
    }

    fn accept_now(&self) -> Option<UnixStream> {
        let (client, _) = self.listening.listener().accept().ok()?;
        client.set_nonblocking(true).ok()?;
        UnixStream::from_std(client).ok()
    }
}

impl Door for MetricsDoor {
    type Client = TcpStream;
    type Listening = TcpListening;

    fn new(listening: TcpListening) -> io::Result<Self> {
        let waited = TcpListener::from_std(listening.listener().try_clone()?)?;
        Ok(Self { waited, listening })
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.waited.accept().await?.0)
    }

    fn accept_now(&self) -> Option<TcpStream> {
        let (client, _) = self.listening.listener().accept().ok()?;
        client.set_nonblocking(true).ok()?;
        TcpStream::from_std(client).ok()
    }
}

/// Gives a server that runs another door, or none.
#[derive(Debug)]
pub(crate) struct Doors<D> {
    runtime: Handle,
    next: UnboundedSender<Option<D>>,
}

impl<D: Door> Doors<D> {
    /// And where its server gets them.
    pub(super) fn new(runtime: &Handle) -> (Self, UnboundedReceiver<Option<D>>) {
        let (next, nexts) = unbounded_channel();
        let runtime = runtime.clone();
        (Self { runtime, next }, nexts)
    }

    /// Prepares a door; dropped, it is closed.
    ///
    /// # Errors
    /// A sentence: the process has no more files.
    pub(crate) fn prepare(&self, listening: D::Listening) -> Result<D, String> {
        let _runtime = self.runtime.enter();
        D::new(listening).map_err(|e| format!("cannot wait for clients: {e}"))
    }

    /// From now on clients come in by this door. The one before is closed once those who have
    /// connected there are let in; they are served to the end.
    pub(crate) fn exchange(&self, door: Option<D>) {
        // It fails if the server has ended.
        let _ = self.next.send(door);
    }
}

impl<D> Clone for Doors<D> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            next: self.next.clone(),
        }
    }
}
