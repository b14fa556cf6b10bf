//! Serves the listeners, with a limit on everything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::net::credentials::Credentials;
use crate::net::listener::{Listener, Peer, Stream};
use crate::runtime::lifecycle::Agent;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// How long a peer may take nothing of what it is told: a stream that nobody reads is ended.
const STALL: Duration = Duration::from_secs(10);
/// The longest head that is taken, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// How long connections are given to end, when the agent does.
const ENDING: Duration = Duration::from_secs(2);
/// How long one that was made just before is given for its first request.
const FRESH: Duration = Duration::from_secs(1);
/// How long to wait when there is no descriptor for one more connection.
const PAUSE: Duration = Duration::from_millis(100);
/// The most connections, in all, of one user of this host and from one other address, unless somebody
/// says otherwise. The loopback is everybody's on this host.
const CONNECTIONS: usize = 4096;
const OF_ONE_USER: usize = 1024;
const OF_ONE_ADDRESS: usize = 128;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// In all.
    pub connections: Option<usize>,
    /// From one address, or of one user.
    pub of_one: Option<usize>,
}

/// How far the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everybody is let in.
    Serving,
    /// The next run gets the listeners; whoever comes now waits for it.
    HandingOver,
    /// Nobody is let in.
    Ending,
}

/// Serves until the agent is in another phase; then lets go of what is under way. Gives the listener, if
/// it is to be handed over.
pub async fn serve(
    listener: Listener,
    router: Router,
    agent: Arc<Agent>,
    limits: Limits,
    secrets: Arc<Credentials>,
) -> Option<Listener> {
    let mut phase = agent.phase.subscribe();
    let doors = Arc::new(Doors::new(agent, limits));
    let over_tls = listener.address().is_some();
    let mut connections = JoinSet::new();
    let next = loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            next = over(&mut phase) => break next,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(room) = doors.enter(peer) {
                        let service = Marked::new(router.clone(), peer);
                        let tls = if over_tls { secrets.acceptor() } else { None };
                        let phase = phase.clone();
                        connections.spawn(async move {
                            if let Some(stream) = secured(stream, tls).await {
                                speak(stream, service, phase).await;
                            }
                            drop(room);
                        });
                    }
                }
                Err(error) => {
                    log::warn!("cannot accept a connection: {error:#}");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    let handed_over = match next {
        Phase::HandingOver => Some(listener),
        _ => {
            listener.remove();
            None
        }
    };
    let ended = async { while connections.join_next().await.is_some() {} };
    // What does not end in time is dropped with the set.
    let _ = timeout(ENDING, ended).await;
    handed_over
}

/// Over TLS, where it is asked for; none for who does not speak it, or not in time.
async fn secured(stream: Box<dyn Stream>, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else {
        return Some(stream);
    };
    match timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            log::debug!("a connection without TLS, or without the right certificate: {error:#}");
            None
        }
        Err(_) => None,
    }
}

/// Each request with who asks.
#[derive(Clone)]
struct Marked {
    inner: TowerToHyperService<Router>,
    peer: Peer,
    /// Rung by each request.
    asked: Arc<Notify>,
}

impl Marked {
    fn new(router: Router, peer: Peer) -> Marked {
        Marked {
            inner: TowerToHyperService::new(router),
            peer,
            asked: Arc::new(Notify::new()),
        }
    }
}

impl Service<Request<Incoming>> for Marked {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.asked.notify_one();
        request.extensions_mut().insert(self.peer);
        self.inner.call(request)
    }
}

async fn speak(stream: Box<dyn Stream>, service: Marked, mut phase: watch::Receiver<Phase>) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD);
    let asked = service.asked.clone();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let stream = Box::pin(stream);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What a peer breaks is its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = over(&mut phase) => {}
    }
    // Whoever has connected and not asked yet would be let go of without an answer.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = timeout(FRESH, asked.notified()) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Waits for the next phase.
async fn over(phase: &mut watch::Receiver<Phase>) -> Phase {
    let next = phase.wait_for(|phase| *phase != Phase::Serving).await;
    // One whose sender is gone is over, too.
    next.map_or(Phase::Ending, |next| *next)
}

/// Counts who is in.
struct Doors {
    agent: Arc<Agent>,
    room: Arc<Semaphore>,
    of_one: Option<usize>,
    crowd: Mutex<Crowd>,
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
            room: Arc::new(Semaphore::new(limits.connections.unwrap_or(CONNECTIONS))),
            of_one: limits.of_one,
            crowd: Mutex::default(),
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of one peer there may be.
    fn most(&self, peer: Peer) -> usize {
        self.of_one.unwrap_or(match peer {
            Peer::Address(ip) if ip.is_loopback() => usize::MAX,
            Peer::Address(_) => OF_ONE_ADDRESS,
            Peer::User(_) => OF_ONE_USER,
        })
    }

    fn enter(self: &Arc<Doors>, peer: Peer) -> Option<Room> {
        let gauges = &self.agent.gauges;
        let most = self.most(peer);
        let peer = one(peer);
        let permit = self.room.clone().try_acquire_owned().ok();
        let Some(permit) = permit.filter(|_| self.crowd().enter(peer, most)) else {
            gauges.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
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
        self.doors.crowd().leave(self.peer);
    }
}

/// How many are in of each peer; nothing is kept of those of whom none is.
#[derive(Default)]
struct Crowd(HashMap<Peer, usize>);

impl Crowd {
    /// Whether one more of this peer may come in, of whom there may be so many.
    fn enter(&mut self, peer: Peer, most: usize) -> bool {
        let count = self.0.get(&peer).copied().unwrap_or_default();
        let may = count < most;
        if may {
            self.0.insert(peer, count + 1);
        }
        may
    }

    fn leave(&mut self, peer: Peer) {
        if let Some(count) = self.0.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&peer);
            }
        }
    }
}

/// Whom a connection counts for: over IPv6 one host has a whole /64 to come from.
fn one(peer: Peer) -> Peer {
    match peer {
        Peer::Address(IpAddr::V6(ip)) if !ip.is_loopback() => {
            let network = ip.to_bits() & !u128::from(u64::MAX);
            Peer::Address(Ipv6Addr::from_bits(network).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        one(Peer::Address(address.parse().unwrap()))
    }

    #[test]
    fn nothing_is_kept_of_who_is_refused_or_has_gone() {
        let mut crowd = Crowd::default();
        assert!(!crowd.enter(Peer::User(1), 0));
        assert!(crowd.0.is_empty(), "refused");
        assert!(crowd.enter(Peer::User(1), 2) && crowd.enter(Peer::User(1), 2));
        assert!(!crowd.enter(Peer::User(1), 2));
        assert!(crowd.enter(Peer::User(2), 2), "another");
        crowd.leave(Peer::User(1));
        assert!(crowd.enter(Peer::User(1), 2), "there is room again");
        for user in [1, 1, 2] {
            crowd.leave(Peer::User(user));
        }
        assert!(crowd.0.is_empty(), "gone");
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("::1"), Peer::Address(Ipv6Addr::LOCALHOST.into()));
    }
}
