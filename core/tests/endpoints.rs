//! Endpoints that are there and no use, and a store that is away when one leaves it.

mod support;

use std::time::Duration;

use discover_core::{Client, SetState};
use support::etcd::Etcd;
use support::{PATIENCE, eventually, web};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Takes connections, and does this to each.
async fn endpoint<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
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

async fn rubbish(mut stream: TcpStream) {
    let bytes: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
    let _ = stream.write_all(&bytes).await;
}

async fn a_web_server(mut stream: TcpStream) {
    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let _ = stream.write_all(page).await;
}

/// A19: an endpoint that takes connections and never answers, one that answers rubbish and one that is
/// something else are passed over for one that is what it should be, wherever it stands in the list.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_no_use_are_passed_over() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let useless = [
        endpoint(silent).await,
        endpoint(rubbish).await,
        endpoint(a_web_server).await,
    ];
    let url = format!(
        "etcd://{},{}/?connect_timeout=30s",
        useless.join(","),
        etcd.endpoint()
    );
    let client = Client::connect(&url).await.unwrap();
    let _lease = client.register(web(1)).await.unwrap();
    let set = client.services("web").unwrap();
    set.wait(1, PATIENCE).await.unwrap();
    // The same on the way back.
    etcd.kill();
    eventually("the loss is noticed", async || {
        set.status().state == SetState::Stale
    })
    .await;
    etcd.restart();
    eventually("the good one is found again", async || {
        set.status().state == SetState::Current
    })
    .await;
    assert_eq!(set.online().len(), 1);
}

/// C10: closing ends at its deadline although the store is away, and what was registered runs out.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_time_although_the_store_is_away() {
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
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    eventually("it is let go", async || {
        lease.standing().name() == "released"
    })
    .await;
    etcd.pause(false);
    let watcher = Client::connect(&url).await.unwrap();
    let set = watcher.services("web").unwrap();
    eventually("it has run out", async || {
        set.status().state == SetState::Current && set.online().is_empty()
    })
    .await;
    etcd.kill();
}
