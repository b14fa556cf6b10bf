//! The proxy does to streams what the scenarios say that it does, and counts it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use discover_faults::clock::{now, wait_until};
use discover_faults::netns::{Host, Network, skipped};
use discover_faults::proxy::{Proxy, Weather};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs on a machine of its own, with a store that answers each byte with the same, behind a proxy.
fn behind_a_proxy(test: impl FnOnce(&Proxy, SocketAddr)) {
    if skipped() {
        return;
    }
    let network = Network::new(1).unwrap();
    let host = network.host(0);
    let store = echo(host);
    let proxy = Proxy::start(host, &[store]);
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
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(mut stream: &TcpStream, question: &str) -> std::io::Result<String> {
    stream.write_all(question.as_bytes())?;
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

#[test]
fn in_fair_weather_everything_passes_and_nothing_is_counted() {
    behind_a_proxy(|proxy, address| {
        let stream = connect(address);
        assert_eq!(ask(&stream, "hello").unwrap(), "hello");
        assert_eq!((proxy.connections(), proxy.harmed()), (1, 0));
    });
}

#[test]
fn a_reset_ends_what_is_open_and_not_what_comes() {
    behind_a_proxy(|proxy, address| {
        let old = connect(address);
        ask(&old, "hello").unwrap();
        proxy.reset();
        let error = (&old).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
        assert_eq!(proxy.harmed(), 1);
    });
}

#[test]
fn who_is_refused_is_reset_at_once() {
    behind_a_proxy(|proxy, address| {
        let refuse = true;
        proxy.weather(Weather {
            refuse,
            ..Weather::default()
        });
        let error = connect(address).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        proxy.weather(Weather::default());
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
    });
}

#[test]
fn what_is_swallowed_is_counted_and_the_connection_stays_open() {
    behind_a_proxy(|proxy, address| {
        let old = connect(address);
        ask(&old, "hello").unwrap();
        proxy.swallow();
        (&old).write_all(b"lost").unwrap();
        // What comes on a new connection has passed; had the old one's passed too, it were here.
        assert_eq!(ask(&connect(address), "hello").unwrap(), "hello");
        assert!(
            wait_until(20.0, || proxy.harmed() > 0),
            "nothing was swallowed"
        );
        old.set_nonblocking(true).unwrap();
        let error = (&old).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn delays_and_losses_cost_time_and_no_bytes() {
    behind_a_proxy(|proxy, address| {
        let delay = Duration::from_millis(50);
        proxy.weather(Weather {
            delay,
            loss: 0.2,
            jitter: delay,
            ..Weather::default()
        });
        let (stream, began) = (connect(address), now());
        for number in 0..5 {
            let question = format!("question {number}");
            assert_eq!(ask(&stream, &question).unwrap(), question);
        }
        let took = Duration::from_micros(now() - began);
        assert!(took >= delay * 10, "there and back, five times");
        assert!(proxy.harmed() >= 10);
    });
}

#[test]
fn what_drips_comes_whole_and_byte_by_byte() {
    behind_a_proxy(|proxy, address| {
        proxy.weather(Weather {
            drip: true,
            ..Weather::default()
        });
        let text = "x".repeat(200);
        assert_eq!(ask(&connect(address), &text).unwrap(), text);
        assert_eq!(proxy.harmed(), 200);
    });
}

#[test]
fn where_connections_break_they_are_reset() {
    behind_a_proxy(|proxy, address| {
        proxy.weather(Weather {
            breaks: 1.0,
            ..Weather::default()
        });
        let error = ask(&connect(address), "hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}
