//! A door before a server, that can be held shut.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What does not pass, for now.
#[derive(Clone, Copy, PartialEq)]
pub enum Held {
    Nothing,
    /// Questions that hold this text.
    Asking(&'static str),
    Everything,
}

/// Passes what clients and the server say, but for what it holds. Nothing is lost.
pub struct Proxy {
    pub endpoint: String,
    held: Arc<watch::Sender<Held>>,
}

impl Proxy {
    pub async fn before(server: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let held = Arc::new(watch::Sender::new(Held::Nothing));
        let door = held.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, door.subscribe()));
                tokio::spawn(pass(from_server, to_client, door.subscribe()));
            }
        });
        Proxy { endpoint, held }
    }

    pub fn hold(&self, what: Held) {
        self.held.send_replace(what);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut door: watch::Receiver<Held>) {
    let mut said = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut said).await {
        let text = String::from_utf8_lossy(&said[..length]).into_owned();
        let passes = |held: &Held| match held {
            Held::Nothing => true,
            Held::Asking(word) => !text.contains(word),
            Held::Everything => false,
        };
        if door.wait_for(passes).await.is_err() || to.write_all(&said[..length]).await.is_err() {
            return;
        }
    }
}
