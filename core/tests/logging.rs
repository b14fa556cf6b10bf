//! Log records as the sink of a host program receives them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discover_core::embed::{Level, LogSink, set_log};
use discover_core::{
    Backend, Client, ConnectionState, Error, ErrorKind, Grant, OnConflict, Registration, Result,
    ServiceName, View,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Notify, broadcast};

/// Collects records as `level target text`.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<Vec<String>>>);

impl LogSink for Records {
    fn record(&mut self, level: Level, target: &str, text: &str) {
        let line = format!("{level} {target} {text}");
        self.0.lock().unwrap().push(line);
    }
}

/// A backend that accepts everything and fails on command.
#[derive(Clone)]
struct Scripted {
    connection: broadcast::Sender<ConnectionState>,
    lease_lost: Arc<Notify>,
}

impl Backend for Scripted {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn register<'a>(&'a self, r: &'a Registration, _: OnConflict) -> BoxFuture<'a, Result<Grant>> {
        let ttl = Duration::from_secs(30);
        let id = r.instance_id().len() as u64;
        ready(Ok(Grant { id, ttl })).boxed()
    }

    fn heartbeat<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn update<'a>(
        &'a self,
        _: &'a Registration,
        _: Grant,
        _: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn unregister<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn lease_lost<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Error> {
        async {
            self.lease_lost.notified().await;
            Error::new(ErrorKind::LeaseLost, "lease deleted")
        }
        .boxed()
    }

    fn connection(&self) -> BoxStream<'static, ConnectionState> {
        let changes = self.connection.subscribe();
        let next = |mut changes: broadcast::Receiver<ConnectionState>| async {
            Some((changes.recv().await.ok()?, changes))
        };
        stream::unfold(changes, next).boxed()
    }

    fn subscribe(&self, _: &ServiceName, _: View) -> BoxStream<'static, Result<View>> {
        stream::pending().boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok([10, 0, 0, 2].into())).boxed()
    }
}

async fn connection_becomes(client: &Client, state: &str) {
    let mut changes = client.connection_changes();
    while changes.next().await.unwrap().name() != state {}
}

#[tokio::test(start_paused = true)]
async fn each_event_of_normal_life_is_logged_once_with_its_fields() {
    let records = Records::default();
    set_log(Level::INFO, Some(Box::new(records.clone()))).unwrap();

    let backend = Scripted {
        connection: broadcast::channel(4).0,
        lease_lost: Arc::default(),
    };
    let opened = Arc::new(backend.clone());
    let client = Client::builder()
        .backend("scripted", move |_| Ok(opened.clone()))
        .url("scripted://h:1")
        .connect()
        .await
        .unwrap();
    let registration = Registration::new("web", 80).unwrap().id("one two").unwrap();
    let mut lease = client.register(registration).await.unwrap();

    backend.lease_lost.notify_one();
    while client.metrics().restored < 1 {
        tokio::task::yield_now().await;
    }
    // The second loss follows the first within a second, so the lease lapses until it is restored.
    backend.lease_lost.notify_one();
    while lease.changed().await.name() != "lapsed" {}
    while lease.changed().await.name() != "live" {}

    let refused = || Error::new(ErrorKind::Unavailable, "connection refused");
    backend
        .connection
        .send(ConnectionState::Suspended(refused()))
        .unwrap();
    connection_becomes(&client, "lost").await;
    backend.connection.send(ConnectionState::Connected).unwrap();
    connection_becomes(&client, "connected").await;

    lease.unregister().await.unwrap();
    client.close(Duration::from_secs(5)).await.unwrap();
    // Returns after the last call of the sink.
    set_log(Level::INFO, None).unwrap();

    let store = "endpoint=h:1 backend=scripted";
    let lease = "service=web instance=\"one two\" endpoint=10.0.0.2:80";
    let connection = |text: &str| format!("discover_core.connection_monitor {text} {store}");
    let keeper = |text: &str| format!("discover_core.lease.keeper {text} {lease}");
    let expected = [
        format!("INFO {}", connection("connected")),
        format!("INFO {}", keeper("registered")),
        format!("INFO {}", keeper("lease restored")),
        format!("WARN {} error=\"lease deleted\"", keeper("lease lost")),
        format!("INFO {}", keeper("lease restored")),
        format!(
            "INFO {} error=\"connection refused\"",
            connection("connection suspended, reconnecting")
        ),
        format!(
            "WARN {} error=\"connection refused\"",
            connection("connection lost, reconnecting")
        ),
        format!("INFO {}", connection("connection restored")),
        format!("INFO {}", keeper("unregistered")),
    ];
    assert_eq!(*records.0.lock().unwrap(), expected);

    // Without a sink nothing is delivered.
    let client = Client::connect("memory://logging").await.unwrap();
    client.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(records.0.lock().unwrap().len(), expected.len());
}
