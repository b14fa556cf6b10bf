//! Members that stop responding, slow links and long round trips, between a client and a real etcd.

mod support;

use std::time::Duration;

use discover_core::{Client, ErrorKind, SetState};
use discover_testkit::certificates::certificates;
use discover_testkit::proxy::{FaultProxy, Faults, Hold};
use support::etcd::{Etcd, EtcdOptions, Tls};
use support::{WAIT_TIMEOUT, eventually, web};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout, timeout_at};

const SCHEMES: [&str; 2] = ["etcd", "etcd2"];

fn start(scheme: &str) -> Option<Etcd> {
    match scheme {
        "etcd2" => Etcd::start_v2(),
        _ => Etcd::start(),
    }
}

/// Returns the addresses of listeners that accept connections in the kernel and never respond.
async fn dead_endpoints(count: usize) -> (Vec<TcpListener>, Vec<String>) {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let addresses = listeners.iter().map(address).collect();
    (listeners, addresses)
}

/// Registrations with the shortest TTL outlive a member that stops responding: their renewals have a third of the TTL
/// and go to another member then.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_ttl_outlives_a_member_that_stops_responding() {
    for scheme in SCHEMES {
        let Some(etcd) = start(scheme) else { return };
        let proxies: Vec<FaultProxy> = (0..3).map(|_| FaultProxy::start(etcd.endpoint())).collect();
        let addresses: Vec<String> = proxies.iter().map(|p| p.address().to_string()).collect();
        let url = format!("{scheme}://{}/?ttl=2s", addresses.join(","));
        let client = Client::connect(&url).await.unwrap();
        let lease = client.register(web(1)).await.unwrap();
        let url = format!("{scheme}://{}/?protect=off", etcd.endpoint());
        let observer = Client::connect(&url).await.unwrap();
        let set = observer.services("web").unwrap();
        set.wait(1, WAIT_TIMEOUT).await.unwrap();
        let used = proxies.iter().max_by_key(|p| p.established()).unwrap();
        used.hold(Hold::Everything);
        let until = Instant::now() + Duration::from_secs(5);
        let mut changed = set.cursor();
        while let Ok(true) = timeout_at(until, changed.changed()).await {
            let events = changed.drain();
            assert_eq!(set.online().len(), 1, "{scheme}: {events:?}");
        }
        assert_eq!(lease.standing().name(), "live", "{scheme}");
        assert_eq!(client.metrics().restored, 0, "{scheme}");
    }
}

/// Dead endpoints at start cost a quarter of a second each, and no endpoint costs the whole timeout.
#[tokio::test(flavor = "multi_thread")]
async fn dead_endpoints_at_start_cost_a_fraction_of_a_second() {
    for scheme in SCHEMES {
        let Some(etcd) = start(scheme) else { return };
        let (_listeners, mut endpoints) = dead_endpoints(4).await;
        endpoints.push(etcd.endpoint());
        let start = Instant::now();
        let url = format!("{scheme}://{}/?connect_timeout=30s", endpoints.join(","));
        let client = Client::connect(&url).await.unwrap();
        client.register(web(1)).await.unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1900), "{scheme}: {took:?}");
    }
}

/// A call that cannot succeed ends at its timeout, with the cause of each endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_ends_at_its_timeout_and_names_all_endpoints() {
    for scheme in SCHEMES {
        let (_listeners, mut endpoints) = dead_endpoints(2).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        endpoints.push(closed.local_addr().unwrap().to_string());
        drop(closed);
        let url = format!("{scheme}://{}/?connect_timeout=6s", endpoints.join(","));
        let start = Instant::now();
        let error = Client::connect(&url).await.unwrap_err();
        let took = start.elapsed();
        assert!(error.is_retriable(), "{error}");
        for endpoint in &endpoints {
            assert!(error.to_string().contains(endpoint), "{scheme}: {error}");
        }
        let expected = Duration::from_millis(5950)..Duration::from_millis(6500);
        assert!(expected.contains(&took), "{scheme}: {took:?}");
        let url = format!("{url}&lazy=true");
        let client = Client::connect(&url).await.unwrap();
        let start = Instant::now();
        let registered = client.register_within(web(1), Duration::from_secs(3)).await;
        let took = start.elapsed();
        let kind = registered.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
            "{kind:?}"
        );
        let expected = Duration::from_millis(2950)..Duration::from_millis(3500);
        assert!(expected.contains(&took), "{scheme}: {took:?}");
    }
}

/// A round trip takes 1.2 s, so that TCP, TLS and the first read take longer than the first attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_round_trip_connects_within_the_timeout_of_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path(), "own");
    let Some(etcd) = EtcdOptions::default().tls(tls.clone()).v2().start() else {
        return;
    };
    let proxy = FaultProxy::start(etcd.endpoint());
    proxy.set_faults(Faults {
        delay: Duration::from_millis(600),
        ..Faults::default()
    });
    for scheme in SCHEMES {
        let Tls { ca, cert, key } = &tls;
        let address = proxy.address();
        let url =
            format!("{scheme}s://{address}/?connect_timeout=20s&ca={ca}&cert={cert}&key={key}");
        let client = Client::connect(&url).await.unwrap();
        let lease = client.register(web(1)).await.unwrap();
        let set = client.services("web").unwrap();
        set.wait(1, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(lease.standing().name(), "live", "{scheme}");
    }
}

/// A large set arrives over a slow link, although the list takes far longer than the connection may be silent; a small
/// set and a registration beside it are not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_set_arrives_over_a_slow_link() {
    for scheme in SCHEMES {
        let Some(etcd) = start(scheme) else { return };
        let url = format!("{scheme}://{}/?ttl=120s", etcd.endpoint());
        let direct = Client::connect(&url).await.unwrap();
        let padding = "x".repeat(1000);
        let big = |port: u16| {
            let registration = discover_core::Registration::new("big", i64::from(port));
            registration.unwrap().host("127.0.0.1").unwrap()
        };
        let padded = |port| {
            big(port)
                .attributes([("padding", padding.as_str())])
                .unwrap()
        };
        let all = (1..=500).map(|port| direct.register(padded(port)));
        let _leases = futures_util::future::try_join_all(all).await.unwrap();
        let proxy = FaultProxy::start(etcd.endpoint());
        let url = format!("{scheme}://{}/?ttl=20s", proxy.address());
        let client = Client::connect(&url).await.unwrap();
        let lease = client.register(web(1)).await.unwrap();
        let small = client.services("web").unwrap();
        small.wait(1, WAIT_TIMEOUT).await.unwrap();
        proxy.set_faults(Faults {
            bytes_per_second: Some(62_500),
            ..Faults::default()
        });
        let set = client.services("big").unwrap();
        let start = Instant::now();
        let listed = set.wait(500, Duration::from_secs(60));
        let mut events = small.cursor();
        let listed = async { (listed.await.unwrap().len(), start.elapsed()) };
        let (count, took) = timeout(Duration::from_secs(60), listed).await.unwrap();
        assert_eq!(count, 500);
        println!("{scheme}: listed after {took:?}");
        assert_eq!(client.metrics().reconnects, 0, "{scheme}");
        assert_eq!(small.status().state, SetState::Current, "{scheme}");
        assert_eq!(lease.standing().name(), "live", "{scheme}");
        eventually("the small set had no loss", async || {
            events.drain().len() <= 2
        })
        .await;
    }
}

/// The advertised host is the local address of the connection in use: here the first endpoint is reached from an IPv6
/// address, but only the second one responds.
#[tokio::test(flavor = "multi_thread")]
async fn the_advertised_host_is_the_local_address_of_the_connection() {
    for scheme in SCHEMES {
        let Some(etcd) = start(scheme) else { return };
        let Ok(dead) = TcpListener::bind("[::1]:0").await else {
            return discover_testkit::skip("ipv6", "not on the loopback interface");
        };
        let port = dead.local_addr().unwrap().port();
        let url = format!(
            "{scheme}://[::1]:{port},{}/?connect_timeout=20s",
            etcd.endpoint()
        );
        let client = Client::connect(&url).await.unwrap();
        let registration = discover_core::Registration::new("local", 1).unwrap();
        let _lease = client.register(registration).await.unwrap();
        let set = client.services("local").unwrap();
        let online = set.wait(1, WAIT_TIMEOUT).await.unwrap();
        assert_eq!(online[0].address(), "127.0.0.1:1", "{scheme}");
    }
}
