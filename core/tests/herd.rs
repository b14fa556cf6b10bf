//! Many clients lose their store at once and reconnect without overloading it (fault A21).

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discover_core::{Client, Registration, ServiceSet, SetState};
use futures_util::future::{join_all, try_join_all};
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, eventually};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 100;

/// A proxy that records the time of each connection.
struct RecordingProxy {
    port: u16,
    accepted: Arc<Mutex<Vec<Instant>>>,
}

impl RecordingProxy {
    async fn start(target: String) -> RecordingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let times = accepted.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                times.lock().unwrap().push(Instant::now());
                tokio::spawn(forward(from, target.clone()));
            }
        });
        RecordingProxy { port, accepted }
    }

    fn accepted_after(&self, moment: Instant) -> Vec<Duration> {
        let accepted = self.accepted.lock().unwrap();
        let later = accepted
            .iter()
            .filter_map(|at| at.checked_duration_since(moment));
        later.collect()
    }
}

async fn forward(mut from: TcpStream, target: String) -> io::Result<()> {
    let mut store = TcpStream::connect(target).await?;
    copy_bidirectional(&mut from, &mut store).await.map(drop)
}

async fn registered_watcher(url: &str, number: usize) -> (Client, ServiceSet) {
    let client = Client::connect(url).await.unwrap();
    let set = client.services("web").unwrap();
    let own = Registration::new("web", number as i64 + 1).unwrap();
    let own = own.host("127.0.0.1").unwrap().ttl(Duration::from_secs(60));
    // The client owns the lease.
    std::mem::forget(client.register(own.unwrap()).await.unwrap());
    (client, set)
}

/// While the store is down each client reconnects with backoff, not in step with the others, and requests at
/// most one list afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_clients_spread_out_and_list_once_each() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let proxy = RecordingProxy::start(etcd.endpoint()).await;
    let url = format!("etcd://127.0.0.1:{}", proxy.port);
    let all = join_all((0..CLIENTS).map(|number| registered_watcher(&url, number))).await;
    let sets: Vec<&ServiceSet> = all.iter().map(|(_, set)| set).collect();
    try_join_all(sets.iter().map(|set| set.wait(CLIENTS, WAIT_TIMEOUT)))
        .await
        .unwrap();

    let lost = Instant::now();
    etcd.kill();
    let outage = Duration::from_secs(4);
    sleep(outage).await; // tidy: sleep, the duration of the outage
    let attempts = proxy.accepted_after(lost);
    etcd.restart();
    eventually("all sets are current again", async || {
        let current = |set: &&ServiceSet| {
            set.status().state == SetState::Current && set.online().len() == CLIENTS
        };
        sets.iter().all(current)
    })
    .await;

    // The first attempt is immediate; the others follow after delays that grow to 1.5 s, on average half of that.
    let max_attempts = CLIENTS * 12;
    assert!(
        attempts.len() <= max_attempts,
        "{} attempts in {outage:?}",
        attempts.len()
    );
    assert!(attempts.len() >= CLIENTS, "some clients did not reconnect");
    // The first attempt of each client follows the loss itself.
    let spread = attempts.iter().filter(|at| at.as_millis() > 1000);
    let mut slices = [0; 300];
    spread.for_each(|at| slices[at.as_millis() as usize / 100] += 1);
    let busiest = slices.iter().max().unwrap();
    assert!(
        *busiest <= CLIENTS / 2,
        "{busiest} attempts in a tenth of a second"
    );
    let relists: Vec<u64> = all
        .iter()
        .map(|(client, _)| client.metrics().relists)
        .collect();
    assert!(relists.iter().all(|relists| *relists <= 1), "{relists:?}");
}
