//! A listener that can be closed and opened again on the same port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;

/// Connections that wait to be accepted, at the most; the system refuses or delays more.
const BACKLOG: u32 = 1024;

/// The listener of the proxy.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    runtime: Handle,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    listener: Option<TcpListener>,
    /// Who waits for a connection while nobody listens.
    waiting: Option<Waker>,
    /// Bound to the port and never listening: while the listener is closed, no other program gets
    /// the port. Not where the system has no such second binding.
    _reserve: Option<TcpSocket>,
}

impl Door {
    /// Listens on a free port of the loopback interface. Needs a runtime of tokio around it.
    pub(super) fn open() -> io::Result<Self> {
        let reserve = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = reserve.local_addr()?;
        let (listener, reserve) = if cfg!(unix) {
            (listen(address)?, Some(reserve))
        } else {
            (reserve.listen(BACKLOG)?, None)
        };
        let inner = Inner { listener: Some(listener), waiting: None, _reserve: reserve };
        Ok(Self { address, runtime: Handle::current(), inner: Mutex::new(inner) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops listening: from now on the system refuses whoever connects, and resets who was not
    /// accepted yet.
    pub(super) fn close(&self) {
        self.inner().listener = None;
    }

    /// Listens again; nothing where it does already.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.listener.is_none() {
            let _runtime = self.runtime.enter();
            inner.listener = Some(listen(self.address)?);
            if let Some(waiting) = inner.waiting.take() {
                waiting.wake();
            }
        }
        Ok(())
    }

    /// The next connection; waits while the door is closed. For one task at a time.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let mut inner = self.inner();
        // Kept at all times, for the listener that holds it may be closed meanwhile.
        inner.waiting = Some(context.waker().clone());
        match &inner.listener {
            Some(listener) => listener.poll_accept(context).map_ok(|(stream, _)| stream),
            None => Poll::Pending,
        }
    }
}

/// A socket bound to an address, so that others of this user that ask for the same can be bound to
/// it as well, and none that only ask to reuse it.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A listener beside the socket that [`reserve`]s its address, where the system has such.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    #[cfg(unix)]
    {
        socket.set_reuseport(true)?;
        // Connections that linger after their end are not to hold the port.
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
