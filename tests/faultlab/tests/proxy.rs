//! The proxy injects exactly the faults that the scenarios ask for, and counts them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use discover_faults::netns::{Host, Network, skipped};
use discover_testkit::clock::{now, wait_until};
use discover_testkit::proxy::{FaultProxy, Faults};

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `test` in a network namespace with an echo server behind a proxy.
fn behind_a_proxy(test: impl FnOnce(&FaultProxy, SocketAddr)) {
    if skipped() {
        return;
    }
    let network = Network::new(1).unwrap();
    let host = network.host(0);
    let store = echo(host);
    let proxy = FaultProxy::start_in(
        {
            let host = host.clone();
            move || host.enter().unwrap()
        },
        &[store],
    );
    let address = proxy.addresses()[0];
    host.enter().unwrap();
    test(&proxy, address);
}

fn echo(host: &Host) -> SocketAddr {
    let host = host.clone();
    let listening = std::thread::spawn(move || {
        host.enter().unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap()
    });
    let listener = listening.join().unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn ask(mut stream: &TcpStream, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut response = vec![0; request.len()];
    stream.read_exact(&mut response)?;
    Ok(String::from_utf8(response).unwrap())
}

#[test]
fn without_faults_everything_passes_and_nothing_is_counted() {
    behind_a_proxy(|proxy, address| {
        let stream = connect(address);
        assert_eq!(ask(&stream, "hello").unwrap(), "hello");
        assert_eq!((proxy.accepted(), proxy.affected()), (1, 0));
    });
}

#[test]
fn a_reset_ends_open_connections_but_not_new_ones() {
    behind_a_proxy(|proxy, address| {
        let old = connect(address);
        ask(&old, "hello").unwrap();
        proxy.reset();
        let error = (&old).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
        assert_eq!(proxy.affected(), 1);
    });
}

#[test]
fn a_refused_connection_is_reset_at_once() {
    behind_a_proxy(|proxy, address| {
        let refuse = true;
        proxy.set_faults(Faults {
            refuse,
            ..Faults::default()
        });
        let error = connect(address).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        proxy.set_faults(Faults::default());
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
    });
}

#[test]
fn swallowed_data_is_counted_and_the_connection_stays_open() {
    behind_a_proxy(|proxy, address| {
        let old = connect(address);
        ask(&old, "hello").unwrap();
        proxy.swallow();
        (&old).write_all(b"lost").unwrap();
        // Data on a new connection has passed by now, so data of the old one would have arrived too.
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
        assert!(
            wait_until(20.0, || proxy.affected() > 0),
            "no data was discarded"
        );
        old.set_nonblocking(true).unwrap();
        let error = (&old).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn delay_and_loss_cost_time_but_no_bytes() {
    behind_a_proxy(|proxy, address| {
        let delay = Duration::from_millis(50);
        proxy.set_faults(Faults {
            delay,
            loss: 0.2,
            jitter: delay,
            ..Faults::default()
        });
        let (stream, began) = (connect(address), now());
        for number in 0..5 {
            let request = format!("request {number}");
            assert_eq!(ask(&stream, &request).unwrap(), request);
        }
        let took = Duration::from_micros(now() - began);
        assert!(took >= delay * 10, "five round trips");
        assert!(proxy.affected() >= 10);
    });
}

#[test]
fn limited_bandwidth_delivers_everything_byte_by_byte() {
    behind_a_proxy(|proxy, address| {
        proxy.set_faults(Faults {
            bytes_per_second: Some(1000),
            ..Faults::default()
        });
        let text = "x".repeat(200);
        assert_eq!(ask(&connect(address), &text).unwrap(), text);
        assert_eq!(proxy.affected(), 200);
    });
}

#[test]
fn a_broken_connection_is_reset() {
    behind_a_proxy(|proxy, address| {
        proxy.set_faults(Faults {
            break_rate: 1.0,
            ..Faults::default()
        });
        let error = ask(&connect(address), "hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}
