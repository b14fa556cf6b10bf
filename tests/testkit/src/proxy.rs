//! A TCP proxy that injects faults into the connections between clients and a server.
//!
//! It runs on a thread of its own, so tests with and without an async runtime use it alike, and that thread can enter
//! a network namespace first. Packets are not touched: a lost packet is a chunk that arrives late, as TCP
//! retransmits it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock::{Micros, now};
use crate::eventually;

/// How long a chunk is delayed when its packet counts as lost.
const RETRANSMISSION_DELAY: Duration = Duration::from_millis(220);

/// The faults that apply to all connections from now on.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Delay of every chunk.
    pub delay: Duration,
    /// Maximum random addition to the delay.
    pub jitter: Duration,
    /// Share of chunks that are retransmitted once or more, 0 to 1.
    pub loss: f64,
    /// Share of chunks at which the connection is reset, 0 to 1.
    pub break_rate: f64,
    /// Bytes per second from the server; none is no limit.
    pub bytes_per_second: Option<u32>,
    /// Resets new connections.
    pub refuse: bool,
    /// Traffic that is held back, in order, until the faults change.
    pub hold: Hold,
}

/// Traffic that is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    #[default]
    Nothing,
    /// Chunks that contain this text.
    Containing(&'static str),
    /// Everything in both directions.
    Everything,
}

/// The proxy. Dropping it closes its listeners and connections.
pub struct FaultProxy {
    state: Arc<ProxyState>,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

struct ProxyState {
    faults: watch::Sender<Faults>,
    /// Connections with a lower number are reset.
    reset_below: watch::Sender<u64>,
    /// Connections with a lower number are closed in order (FIN).
    close_below: watch::Sender<u64>,
    /// Data of connections with a lower number is discarded.
    swallow_below: AtomicU64,
    /// How many new connections are still to be closed immediately.
    hang_ups: AtomicUsize,
    is_cut: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    accepted: AtomicU64,
    open: AtomicU64,
    affected: AtomicU64,
    /// Time in microseconds of the first connection after the last [`FaultProxy::heal`]; 0 if there was none.
    first_accepted: AtomicU64,
    /// How many connections were established in both directions.
    established: AtomicU64,
}

impl FaultProxy {
    /// Starts a proxy in front of one server.
    pub fn start(target: impl AsRef<str>) -> FaultProxy {
        let target = target.as_ref();
        let address = target.parse();
        let address = address.unwrap_or_else(|_| panic!("{target} is not an address with a port"));
        FaultProxy::start_in(|| (), &[address])
    }

    /// Starts a proxy with one listener for each target. Its thread calls `enter` first, for example to join a
    /// network namespace.
    pub fn start_in(enter: impl FnOnce() + Send + 'static, targets: &[SocketAddr]) -> FaultProxy {
        let state = Arc::new(ProxyState {
            faults: watch::Sender::new(Faults::default()),
            reset_below: watch::Sender::new(0),
            close_below: watch::Sender::new(0),
            swallow_below: AtomicU64::new(0),
            hang_ups: AtomicUsize::new(0),
            is_cut: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            affected: AtomicU64::new(0),
            first_accepted: AtomicU64::new(0),
            established: AtomicU64::new(0),
        });
        let (targets, own) = (targets.to_vec(), state.clone());
        let (ready, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut stop = own.stop.subscribe();
                let mut addresses = Vec::new();
                for target in targets {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                    let listener = listener.expect("a free port");
                    addresses.push(listener.local_addr().expect("it is bound"));
                    tokio::spawn(own.clone().accept(listener, target));
                }
                ready.send(addresses).expect("the starter waits for it");
                let _ = stop.wait_for(|stop| *stop).await;
            });
        });
        let addresses = listening.recv().expect("the proxy listens");
        FaultProxy {
            state,
            thread: Some(thread),
            addresses,
        }
    }

    /// The address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses of all listeners, in the order of their targets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces the faults that apply.
    pub fn set_faults(&self, faults: Faults) {
        self.state.faults.send_replace(faults);
    }

    /// Holds traffic back, without other faults.
    pub fn hold(&self, hold: Hold) {
        let faults = Faults {
            hold,
            ..Faults::default()
        };
        self.set_faults(faults);
    }

    /// Resets all open connections (RST).
    pub fn reset(&self) {
        self.state.reset_below.send_replace(self.accepted());
    }

    /// Resets all open connections and waits for the next one that is established.
    pub fn reset_and_wait(&self) {
        let before = self.state.established.load(Ordering::SeqCst);
        self.reset();
        self.wait_established(before);
    }

    /// Closes all open connections and the next `times` new ones in order (FIN), and waits for the next one that
    /// stays open.
    pub fn hang_up(&self, times: usize) {
        let before = self.state.established.load(Ordering::SeqCst);
        self.state.hang_ups.store(times, Ordering::SeqCst);
        self.state.close_below.send_replace(self.accepted());
        self.wait_established(before);
    }

    fn wait_established(&self, before: u64) {
        eventually("the client reconnects", || {
            (self.state.established.load(Ordering::SeqCst) > before).then_some(())
        });
    }

    /// Discards all data of the open connections, which stay open.
    pub fn swallow(&self) {
        self.state
            .swallow_below
            .store(self.accepted(), Ordering::SeqCst);
    }

    /// Closes all connections, waits until they are closed, and closes new ones until [`FaultProxy::heal`].
    pub fn cut(&self) {
        self.state.is_cut.send_replace(true);
        eventually("all connections are closed", || {
            (self.state.open.load(Ordering::SeqCst) == 0).then_some(())
        });
    }

    /// Accepts connections again after [`FaultProxy::cut`], and counts them anew.
    pub fn heal(&self) {
        self.state.first_accepted.store(0, Ordering::SeqCst);
        self.state.established.store(0, Ordering::SeqCst);
        self.state.is_cut.send_replace(false);
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of connections established since the last [`FaultProxy::heal`].
    pub fn established(&self) -> u64 {
        self.state.established.load(Ordering::SeqCst)
    }

    /// Returns the time in microseconds at which the first connection after the last [`FaultProxy::heal`] was accepted; 0 if
    /// none was.
    pub fn first_accepted(&self) -> Micros {
        self.state.first_accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of chunks that were delayed, lost or discarded, and of connections that were broken.
    pub fn affected(&self) -> u64 {
        self.state.affected.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// FIN.
    Closed,
    /// RST.
    Reset,
}

impl ProxyState {
    fn record_fault(&self) {
        self.affected.fetch_add(1, Ordering::SeqCst);
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, target: SocketAddr) {
        while let Ok((client, _)) = listener.accept().await {
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let one_less = |left: usize| left.checked_sub(1);
            let hang_up = self
                .hang_ups
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            if *self.is_cut.borrow() || hang_up.is_ok() {
                continue;
            }
            if self.faults.borrow().refuse {
                self.record_fault();
                let _ = client.set_zero_linger();
                continue;
            }
            let first = (Ordering::SeqCst, Ordering::SeqCst);
            let _ = self
                .first_accepted
                .compare_exchange(0, now(), first.0, first.1);
            self.open.fetch_add(1, Ordering::SeqCst);
            let state = self.clone();
            tokio::spawn(async move {
                state.clone().serve(number, client, target).await;
                state.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    async fn serve(self: Arc<Self>, number: u64, mut client: TcpStream, target: SocketAddr) {
        let mut ended = std::pin::pin!(self.ended(number));
        let connected = tokio::select! {
            connected = TcpStream::connect(target) => connected.ok(),
            _ = &mut ended => None,
        };
        let Some(mut server) = connected else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        self.established.fetch_add(1, Ordering::SeqCst);
        let end = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                end = self.pump(number, Direction::ToServer, from_client, to_server) => end,
                end = self.pump(number, Direction::ToClient, from_server, to_client) => end,
                end = ended => end,
            }
        };
        if end == End::Reset {
            self.record_fault();
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }

    /// Resolves when a connection is to be ended by command.
    async fn ended(&self, number: u64) -> End {
        let mut reset = self.reset_below.subscribe();
        let mut close = self.close_below.subscribe();
        let mut cut = self.is_cut.subscribe();
        tokio::select! {
            _ = reset.wait_for(|below| number < *below) => End::Reset,
            _ = close.wait_for(|below| number < *below) => End::Closed,
            _ = cut.wait_for(|cut| *cut) => End::Closed,
        }
    }

    /// Forwards one direction.
    async fn pump(
        &self,
        number: u64,
        direction: Direction,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
    ) -> End {
        // Unbounded, because a test bounds its own traffic and holding must not push back on the sender.
        let (queue, mut arrivals) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let read = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let length = match from.read(&mut buffer).await {
                    Ok(0) => return End::Closed,
                    Ok(length) => length,
                    Err(_) => return End::Reset,
                };
                if number < self.swallow_below.load(Ordering::SeqCst) {
                    self.record_fault();
                    continue;
                }
                let faults = self.faults.borrow().clone();
                if faults.break_rate > 0.0 && fastrand::f64() < faults.break_rate {
                    return End::Reset;
                }
                let _ = queue.send((self.arrival(&faults), buffer[..length].to_vec()));
            }
        };
        let write = async {
            let mut faults = self.faults.subscribe();
            while let Some((arrival, chunk)) = arrivals.recv().await {
                sleep_until(arrival).await;
                let passes = |faults: &Faults| match faults.hold {
                    Hold::Nothing => true,
                    Hold::Containing(text) => !contains(&chunk, text.as_bytes()),
                    Hold::Everything => false,
                };
                let limit = match faults.wait_for(passes).await {
                    Ok(faults) => faults.bytes_per_second,
                    Err(_) => return End::Closed,
                };
                let limit = limit.filter(|_| direction == Direction::ToClient);
                if self.write(&mut to, &chunk, limit).await.is_err() {
                    return End::Reset;
                }
            }
            End::Closed
        };
        tokio::select! {
            end = read => end,
            end = write => end,
        }
    }

    /// Returns when a chunk that was read now arrives. The queue keeps the order.
    fn arrival(&self, faults: &Faults) -> Instant {
        let mut time = faults.delay + faults.jitter.mul_f64(fastrand::f64());
        while faults.loss > 0.0 && fastrand::f64() < faults.loss {
            time += RETRANSMISSION_DELAY;
        }
        if !time.is_zero() {
            self.record_fault();
        }
        Instant::now() + time
    }

    /// Writes a chunk, in pieces of up to one millisecond's worth of bytes if the bandwidth is limited.
    async fn write(
        &self,
        to: &mut (impl AsyncWriteExt + Unpin),
        chunk: &[u8],
        bytes_per_second: Option<u32>,
    ) -> std::io::Result<()> {
        let Some(rate) = bytes_per_second else {
            return to.write_all(chunk).await;
        };
        let piece = (rate as usize / 1000).max(1);
        for bytes in chunk.chunks(piece) {
            self.record_fault();
            to.write_all(bytes).await?;
            sleep(Duration::from_secs(1).mul_f64(bytes.len() as f64 / f64::from(rate))).await;
        }
        Ok(())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}
