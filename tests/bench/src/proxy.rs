//! A way to the store that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock::now;

/// See the module.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    open: Arc<watch::Sender<bool>>,
    first: Arc<AtomicU64>,
    count: Arc<AtomicU64>,
}

impl Proxy {
    /// Leads to a port of this machine.
    pub async fn start(to: u16) -> Result<Proxy, String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let open = Arc::new(watch::Sender::new(true));
        let first = Arc::new(AtomicU64::new(0));
        let count = Arc::new(AtomicU64::new(0));
        let (gate, came, counted) = (open.clone(), first.clone(), count.clone());
        tokio::spawn(async move {
            while let Ok((inside, _)) = listener.accept().await {
                if !*gate.borrow() {
                    continue;
                }
                let _ = came.compare_exchange(0, now(), Ordering::SeqCst, Ordering::SeqCst);
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(join(inside, to, gate.subscribe()));
            }
        });
        Ok(Proxy {
            port,
            open,
            first,
            count,
        })
    }

    /// Ends all connections, and takes no new ones until it is opened. Nothing comes through after that.
    pub async fn cut(&self) {
        self.open.send_replace(false);
        self.open.closed().await;
    }

    /// Takes connections again.
    pub fn heal(&self) {
        self.first.store(0, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
        self.open.send_replace(true);
    }

    /// How many connections have come since.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// When the first connection came after it was healed; 0 before.
    pub fn first(&self) -> u64 {
        self.first.load(Ordering::SeqCst)
    }
}

async fn join(mut inside: TcpStream, to: u16, mut open: watch::Receiver<bool>) {
    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    let cut = async { while open.wait_for(|open| !open).await.is_err() {} };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
        () = cut => {}
    }
}
