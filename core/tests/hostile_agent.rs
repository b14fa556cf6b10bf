//! An agent that sends without end: the library stops at its limits, reports the reason, and its memory stays bounded.

mod support;

use std::time::Duration;

use discover_core::{Client, ErrorKind, SetState};
use discover_testkit::process::resident_bytes;
use support::WAIT_TIMEOUT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Serves the status of an agent, and event streams that repeat the text of `next`. Returns its address.
async fn serve(next: fn(u64) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond(stream, next));
        }
    });
    address
}

async fn respond(mut stream: TcpStream, next: fn(u64) -> String) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"GET /v1/services/web/events") {
            let response = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(response.as_bytes()).await?;
            continue;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        for number in 0.. {
            stream.write_all(next(number).as_bytes()).await?;
        }
    }
}

/// Watches a service of such an agent until the set has a fault. Returns its text and how much memory was added.
async fn fault(next: fn(u64) -> String, options: &str) -> (String, usize) {
    let address = serve(next).await;
    let url = format!("discoverd://{address}?{options}");
    let client = Client::connect(&url).await.unwrap();
    let before = resident_bytes(std::process::id());
    let set = client.services("web").unwrap();
    let mut cursor = set.cursor();
    let failed = async {
        loop {
            assert!(cursor.changed().await);
            cursor.drain();
            if let Some(fault) = set.snapshot().fault() {
                return fault.error.clone();
            }
        }
    };
    let error = timeout(WAIT_TIMEOUT, failed).await.unwrap();
    assert_ne!(set.snapshot().state(), SetState::Current);
    assert!(set.snapshot().online().is_empty());
    assert_ne!(error.kind(), ErrorKind::Timeout);
    let added = resident_bytes(std::process::id()).saturating_sub(before);
    client.close(Duration::from_secs(5)).await.unwrap();
    (error.to_string(), added)
}

#[tokio::test]
async fn an_event_without_end_is_refused() {
    let (text, added) = fault(|_| format!("data: {}\n", "x".repeat(10_000)), "").await;
    assert!(
        text.contains("an event is longer than 4194304 bytes"),
        "{text}"
    );
    assert!(added < 64 * 1024 * 1024, "{added}");
}

#[tokio::test]
async fn instances_without_end_are_refused() {
    let up = |number: u64| {
        format!(
            "event: up\ndata: {{\"id\":\"h{number}:1\",\"host\":\"h{number}\",\"port\":1,\"attributes\":{{}},\
             \"tags\":[],\"created\":{number}}}\n\n"
        )
    };
    let (text, added) = fault(up, "max_instances=20000").await;
    assert!(text.contains("more than 20000 instances"), "{text}");
    assert!(added < 64 * 1024 * 1024, "{added}");
}

#[tokio::test]
async fn a_response_without_end_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut part = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
                while stream.write_all(&part).await.is_ok() {
                    part = vec![b' '; 10_000];
                }
            });
        }
    });
    let error = Client::connect(&format!("discoverd://{address}?connect_timeout=20s"))
        .await
        .err()
        .unwrap();
    let text = error.report();
    assert!(
        text.contains("the response is longer than 1048576 bytes"),
        "{text}"
    );
}

#[tokio::test]
async fn a_response_whose_end_is_unclear_is_refused() {
    for framing in [
        "transfer-encoding: chunked\r\ncontent-length: 7",
        "content-length: 7\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let response =
                    format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        let url = format!("discoverd://{address}");
        let connected = timeout(WAIT_TIMEOUT, Client::connect(&url)).await.unwrap();
        let error = connected
            .err()
            .unwrap_or_else(|| panic!("accepted: {framing}"));
        assert!(
            error.to_string().contains("Transfer-Encoding"),
            "{framing}: {error}"
        );
    }
}
