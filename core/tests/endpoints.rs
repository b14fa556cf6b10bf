//! Endpoints that accept connections but are not etcd, and closing a client while the store does not respond.

mod support;

use std::time::Duration;

use discover_core::{Client, SetState};
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, eventually, web};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Starts a TCP server that calls `serve` for each connection, and returns its address.
async fn start_server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn silent(stream: TcpStream) {
    let _stream = stream;
    std::future::pending().await
}

async fn garbage(mut stream: TcpStream) {
    let bytes: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
    let _ = stream.write_all(&bytes).await;
}

async fn web_page(mut stream: TcpStream) {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let _ = stream.write_all(page).await;
}

/// A19: the client skips an endpoint that never answers, one that answers garbage and one of another protocol,
/// and uses the etcd member of the list, whatever its position.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_endpoints_are_skipped() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let unusable = [
        start_server(silent).await,
        start_server(garbage).await,
        start_server(web_page).await,
    ];
    let url = format!(
        "etcd://{},{}/?connect_timeout=30s",
        unusable.join(","),
        etcd.endpoint()
    );
    let client = Client::connect(&url).await.unwrap();
    let _lease = client.register(web(1)).await.unwrap();
    let set = client.services("web").unwrap();
    set.wait(1, WAIT_TIMEOUT).await.unwrap();
    // The client finds the member again after a restart.
    etcd.kill();
    eventually("the set is stale", async || {
        set.status().state == SetState::Stale
    })
    .await;
    etcd.restart();
    eventually("the set is current again", async || {
        set.status().state == SetState::Current
    })
    .await;
    assert_eq!(set.online().len(), 1);
}

/// C10: closing ends at its deadline although the store does not respond, and registrations expire.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_time_although_the_store_does_not_respond() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let url = format!("etcd://{}/?ttl=2s", etcd.endpoint());
    let client = Client::connect(&url).await.unwrap();
    let lease = client.register(web(1)).await.unwrap();
    etcd.pause(true);
    let began = Instant::now();
    let within = Duration::from_secs(1);
    let error = client.close(within).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(began.elapsed() < WAIT_TIMEOUT / 3, "{:?}", began.elapsed());
    eventually("the lease is released", async || {
        lease.standing().name() == "released"
    })
    .await;
    etcd.pause(false);
    let watcher = Client::connect(&url).await.unwrap();
    let set = watcher.services("web").unwrap();
    eventually("the registration has expired", async || {
        set.status().state == SetState::Current && set.online().is_empty()
    })
    .await;
    etcd.kill();
}
