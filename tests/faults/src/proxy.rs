//! A proxy for TCP in the clients' way to the store, with bad weather: what the kernel here cannot do
//! to packets is done to streams. A lost packet is a stream that stalls until it is sent again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::netns::Host;
use crate::raw;

/// What happens to the streams that go through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// How long everything takes.
    pub delay: Duration,
    /// How much longer it may take, by chance.
    pub jitter: Duration,
    /// The share of pieces that come as if they had been lost first.
    pub loss: f64,
    /// The share of pieces at which the connection breaks.
    pub breaks: f64,
    /// What comes from the store comes byte by byte.
    pub drip: bool,
    /// New connections are reset at once.
    pub refuse: bool,
}

/// How long a lost packet is missing.
const RETRANSMISSION: Duration = Duration::from_millis(220);

/// The proxy. It ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

struct Shared {
    weather: Mutex<Weather>,
    /// Connections with a lower number are reset.
    reset_below: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    connections: AtomicU64,
    swallow_below: AtomicU64,
    harmed: AtomicU64,
}

impl Proxy {
    /// Listens on a machine, one address for each target.
    pub fn start(host: &Host, targets: &[SocketAddr]) -> Proxy {
        let shared = Arc::new(Shared {
            weather: Mutex::default(),
            reset_below: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            connections: AtomicU64::new(0),
            swallow_below: AtomicU64::new(0),
            harmed: AtomicU64::new(0),
        });
        let (targets, inside) = (targets.to_vec(), shared.clone());
        let (ready, listening) = std::sync::mpsc::channel();
        let thread = raw::spawn(host, move || async move {
            let mut stop = inside.stop.subscribe();
            let mut addresses = Vec::new();
            for target in targets {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a free port");
                addresses.push(listener.local_addr().expect("it is bound"));
                tokio::spawn(inside.clone().accept(listener, target));
            }
            ready.send(addresses).expect("somebody waits for it");
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let addresses = listening.recv().expect("the proxy listens");
        Proxy {
            shared,
            thread: Some(thread),
            addresses,
        }
    }

    /// Where it listens, in the order of the targets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on the weather is this.
    pub fn weather(&self, weather: Weather) {
        *self
            .shared
            .weather
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Resets all connections that are open.
    pub fn reset(&self) {
        let count = self.shared.connections.load(Ordering::SeqCst);
        self.shared.reset_below.send_replace(count);
    }

    /// Passes nothing on any more in the connections that are open, which stay open.
    pub fn swallow(&self) {
        let count = self.shared.connections.load(Ordering::SeqCst);
        self.shared.swallow_below.store(count, Ordering::SeqCst);
    }

    /// How many pieces were delayed, lost or swallowed, and how many connections broken.
    pub fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::SeqCst)
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Which way a stream goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Shared {
    fn now(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn harm(&self) {
        self.harmed.fetch_add(1, Ordering::SeqCst);
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, target: SocketAddr) {
        while let Ok((client, _)) = listener.accept().await {
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            if self.now().refuse {
                self.harm();
                let _ = client.set_zero_linger();
                continue;
            }
            tokio::spawn(self.clone().serve(number, client, target));
        }
    }

    async fn serve(self: Arc<Self>, number: u64, mut client: TcpStream, target: SocketAddr) {
        let mut reset = self.reset_below.subscribe();
        let connected = tokio::select! {
            connected = TcpStream::connect(target) => connected.ok(),
            _ = reset.wait_for(|below| number < *below) => None,
        };
        let Some(mut server) = connected else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let broken = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                broken = self.pump(number, Way::Up, from_client, to_server) => broken,
                broken = self.pump(number, Way::Down, from_server, to_client) => broken,
                _ = reset.wait_for(|below| number < *below) => true,
            }
        };
        if broken {
            self.harm();
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }

    /// Passes one direction on until it ends; true if the connection is to break.
    async fn pump(
        &self,
        number: u64,
        way: Way,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
    ) -> bool {
        let (queue, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let read = async {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let Ok(length) = from.read(&mut buffer).await else {
                    return true;
                };
                if length == 0 {
                    return false;
                }
                let weather = self.now();
                if number < self.swallow_below.load(Ordering::SeqCst) {
                    self.harm();
                    continue;
                }
                if weather.breaks > 0.0 && fastrand::f64() < weather.breaks {
                    return true;
                }
                let _ = queue.send((self.arrival(weather), buffer[..length].to_vec()));
            }
        };
        let write = async {
            while let Some((arrival, piece)) = due.recv().await {
                sleep_until(arrival).await;
                let written = match self.now().drip && way == Way::Down {
                    true => self.drip(&mut to, &piece).await,
                    false => to.write_all(&piece).await,
                };
                if written.is_err() {
                    return true;
                }
            }
            false
        };
        tokio::select! {
            broken = read => broken,
            broken = write => broken,
        }
    }

    /// When a piece that comes now arrives. The queue keeps the order.
    fn arrival(&self, weather: Weather) -> Instant {
        let mut time = weather.delay + weather.jitter.mul_f64(fastrand::f64());
        while weather.loss > 0.0 && fastrand::f64() < weather.loss {
            time += RETRANSMISSION;
        }
        if !time.is_zero() {
            self.harm();
        }
        Instant::now() + time
    }

    async fn drip(
        &self,
        to: &mut (impl AsyncWriteExt + Unpin),
        piece: &[u8],
    ) -> std::io::Result<()> {
        for byte in piece {
            self.harm();
            to.write_all(std::slice::from_ref(byte)).await?;
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}
