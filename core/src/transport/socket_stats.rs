//! What the sockets of a connection have received, as evidence that the server and the link are alive.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes which show that a transfer is in progress. Fewer may be acknowledgements of an unresponsive server.
pub(crate) const TRANSFER_BYTES: u64 = 1024;

/// Counters of one connection, which may consist of several sockets.
#[derive(Debug, Default)]
pub(crate) struct SocketStats {
    received: AtomicU64,
    local_address: Mutex<Option<IpAddr>>,
}

impl SocketStats {
    /// Returns the number of bytes received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns the local address of the newest socket, or `None` before the first.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        *self
            .local_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a socket receives.
    pub(crate) fn meter(self: &Arc<SocketStats>, socket: TcpStream) -> MeteredSocket {
        let local = socket.local_addr().ok().map(|address| address.ip());
        *self
            .local_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = local;
        MeteredSocket {
            socket,
            stats: self.clone(),
        }
    }

    /// Runs a transfer for as long as it takes, however slow the link is. Returns `None` if nothing is received for
    /// `silence`.
    pub(crate) async fn transfer<T>(
        &self,
        silence: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let before = self.received();
            match timeout(silence, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.received() < before + TRANSFER_BYTES => return None,
                Err(_) => {}
            }
        }
    }
}

/// A TCP socket that counts the bytes it receives.
pub(crate) struct MeteredSocket {
    socket: TcpStream,
    stats: Arc<SocketStats>,
}

impl AsyncRead for MeteredSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let received = buffer.filled().len().saturating_sub(before);
        self.stats
            .received
            .fetch_add(received as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MeteredSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
