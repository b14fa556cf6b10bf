//! The listeners: a socket and an address, with a limit on everything.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use discover_core::{Error, Kind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::app::Agent;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// How long a peer may take nothing of what it is told: a stream that nobody reads is ended.
const STALL: Duration = Duration::from_secs(10);
/// The longest head that is taken, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// How long connections are given to end, when the agent does.
const ENDING: Duration = Duration::from_secs(2);
/// How long to wait when there is no descriptor for one more connection.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// From one address, or of one user.
    pub of_one: usize,
}

/// One way in.
pub enum Listener {
    /// An address; with TLS, or for this host alone.
    Tcp(TcpListener, Option<TlsAcceptor>),
    /// A socket in the file system, removed at the end.
    Unix(UnixListener, PathBuf),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Address(IpAddr),
    User(u32),
}

impl Listener {
    /// Listens on an address.
    pub async fn tcp(address: &str, tls: Option<TlsAcceptor>) -> Result<Listener> {
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|e| cannot(&format!("listen on {address}"), e))?;
        Ok(Listener::Tcp(listener, tls))
    }

    /// Listens on a socket that the owner and the group can use. One that is left over from an agent that
    /// is gone is replaced; one that is in use is not.
    pub fn unix(path: &Path) -> Result<Listener> {
        let doing = format!("listen on {}", path.display());
        let failed = |e| cannot(&doing, e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let left = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        if left {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                let text = format!("cannot {doing}: another agent is there");
                return Err(Error::new(Kind::Busy, text));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        // Under its name only once nobody else can use it.
        // A short one: the whole path of a socket has room for some hundred bytes.
        let new = path.with_file_name(format!(".{:x}", std::process::id()));
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        let named = std::fs::set_permissions(&new, mode).and_then(|()| std::fs::rename(&new, path));
        named.map_err(failed)?;
        Ok(Listener::Unix(listener, path.to_owned()))
    }

    /// Where it listens, as a registry URL.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(listener, _) => listener.local_addr().map_or_else(
                |_| "discoverd://".to_owned(),
                |at| format!("discoverd://{at}"),
            ),
            Listener::Unix(_, path) => format!("discoverd+unix://{}", path.display()),
        }
    }

    /// The address, where it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener, _) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }
}

/// Serves until `end` says so; then lets go of what is under way.
pub async fn serve(
    listener: Listener,
    router: Router,
    agent: Arc<Agent>,
    limits: Limits,
    mut end: watch::Receiver<bool>,
) {
    let doors = Arc::new(Doors::new(agent, limits));
    let tls = match &listener {
        Listener::Tcp(_, tls) => tls.clone(),
        Listener::Unix(..) => None,
    };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            () = over(&mut end) => break,
            accepted = accept(&listener) => match accepted {
                Ok((stream, peer)) => {
                    if let Some(room) = doors.enter(peer) {
                        let service = router.clone();
                        let (tls, end) = (tls.clone(), end.clone());
                        connections.spawn(async move {
                            if let Some(stream) = secured(stream, tls).await {
                                speak(stream, service, end).await;
                            }
                            drop(room);
                        });
                    }
                }
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(path);
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What does not end in time is dropped with the set.
    let _ = timeout(ENDING, ended).await;
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn accept(listener: &Listener) -> std::io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Listener::Tcp(listener, _) => {
            let (stream, peer) = listener.accept().await?;
            // A small message must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Ok((Box::new(stream), Peer::Address(peer.ip())))
        }
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            Ok((Box::new(stream), Peer::User(user)))
        }
    }
}

/// Over TLS, where it is asked for; none for who does not speak it, or not in time.
async fn secured(stream: Box<dyn Stream>, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else {
        return Some(stream);
    };
    match timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            log::debug!("a connection without TLS, or without the right certificate: {error}");
            None
        }
        Err(_) => None,
    }
}

async fn speak(stream: Box<dyn Stream>, router: Router, mut end: watch::Receiver<bool>) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD);
    let service = TowerToHyperService::new(router);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let stream = Box::pin(stream);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What a peer breaks is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = over(&mut end) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Waits until the agent ends.
async fn over(end: &mut watch::Receiver<bool>) {
    // One whose sender is gone is over, too.
    let _ = end.wait_for(|end| *end).await;
}

/// Counts who is in.
struct Doors {
    agent: Arc<Agent>,
    room: Arc<Semaphore>,
    of_one: usize,
    peers: Mutex<HashMap<Peer, usize>>,
}

/// A place for one connection, given back when dropped.
struct Room {
    doors: Arc<Doors>,
    peer: Peer,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Doors {
    fn new(agent: Arc<Agent>, limits: Limits) -> Doors {
        Doors {
            agent,
            room: Arc::new(Semaphore::new(limits.connections)),
            of_one: limits.of_one,
            peers: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Doors>, peer: Peer) -> Option<Room> {
        let gauges = &self.agent.gauges;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        let permit = self.room.clone().try_acquire_owned().ok();
        let Some(permit) = permit.filter(|_| *count < self.of_one) else {
            gauges.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        *count += 1;
        gauges.connections.fetch_add(1, Ordering::Relaxed);
        Some(Room {
            doors: self.clone(),
            peer,
            _permit: permit,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let gauges = &self.doors.agent.gauges;
        gauges.connections.fetch_sub(1, Ordering::Relaxed);
        let mut peers = self
            .doors
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

fn cannot(doing: &str, cause: std::io::Error) -> Error {
    Error::caused_by(Kind::Resource, format!("cannot {doing}"), cause)
}
