//! G13 and G24 beside fleets in normal churn: a healthy store's word holds, at once and for good.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use discover_core::{Client, Event, ServiceSet};
use futures_util::StreamExt;
use support::etcd::Etcd;
use support::{WAIT_TIMEOUT, eventually, web};
use tokio::time::{Instant, sleep};

async fn client(scheme: &str, etcd: &Etcd) -> Client {
    let url = format!("{scheme}://{}/", etcd.endpoint());
    Client::connect(&url).await.unwrap()
}

/// Writes instances of the native layout directly, each with a lease or TTL of its own.
struct Fleet<'a> {
    etcd: &'a Etcd,
    is_v2: bool,
    /// The leases by port; only on v3.
    leases: BTreeMap<u16, String>,
}

impl Fleet<'_> {
    fn key(port: u16) -> String {
        format!("/discover/services/web/127.0.0.1:{port}")
    }

    /// Registers an instance that expires after `ttl` seconds.
    fn register(&mut self, port: u16, ttl: u32) {
        if self.is_v2 {
            let request = format!("PUT /v2/keys{}?value=null&ttl={ttl}", Fleet::key(port));
            self.etcd.http(&request);
            return;
        }
        let granted = self.etcd.ctl(&["lease", "grant", &ttl.to_string()]);
        let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
        let put = ["put", &Fleet::key(port), "null", "--lease", &lease];
        self.etcd.ctl(&put);
        self.leases.insert(port, lease);
    }

    fn delete(&mut self, port: u16) {
        match self.is_v2 {
            true => self
                .etcd
                .http(&format!("DELETE /v2/keys{}", Fleet::key(port))),
            false => self.etcd.ctl(&["del", &Fleet::key(port)]),
        };
    }

    /// Removes an instance by revoking its lease, as many clients leave. The v2 API has no such call.
    fn revoke(&mut self, port: u16) {
        match self.leases.remove(&port) {
            Some(lease) => drop(self.etcd.ctl(&["lease", "revoke", &lease])),
            None => self.delete(port),
        }
    }

    fn present(&self) -> BTreeSet<u16> {
        let keys = match self.is_v2 {
            true => self
                .etcd
                .ctl2(&["ls", "--recursive", "/discover/services/web"]),
            false => self
                .etcd
                .ctl(&["get", "--prefix", "/discover/services/web/", "--keys-only"]),
        };
        let ports = keys
            .lines()
            .filter_map(|key| key.rsplit_once(':')?.1.trim().parse().ok());
        ports.collect()
    }
}

fn ports(set: &ServiceSet) -> BTreeSet<u16> {
    set.online()
        .iter()
        .map(|instance| instance.port())
        .collect()
}

/// The example of the fault report: of six instances one expires, then three are deleted. Nothing comes back.
async fn nothing_comes_back(scheme: &str, etcd: &Etcd) {
    let mut fleet = Fleet {
        etcd,
        is_v2: scheme == "etcd2",
        leases: BTreeMap::new(),
    };
    let watcher = client(scheme, etcd).await;
    let set = watcher.services("web").unwrap();
    for port in 1..=6 {
        fleet.register(port, if port == 1 { 2 } else { 60 });
    }
    set.wait(6, WAIT_TIMEOUT).await.unwrap();
    let (mut events, (sender, received)) = (Box::pin(set.subscribe()), mpsc::channel());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let _ = sender.send(event);
        }
    });
    eventually("the expired instance is offline", async || {
        !ports(&set).contains(&1)
    })
    .await;
    for port in 2..=3 {
        fleet.delete(port);
    }
    fleet.revoke(4);
    eventually("two are online", async || ports(&set) == [5, 6].into()).await;
    let mut offline = BTreeSet::new();
    eventually("all events have arrived", async || {
        for event in received.try_iter() {
            match event {
                Event::Down(instance) => drop(offline.insert(instance.port())),
                Event::Up(there) => assert!(!offline.contains(&there.port()), "{there:?}"),
                Event::Update(instance) => assert!(!instance.is_suspect(), "{instance:?}"),
                _ => {}
            }
        }
        offline.len() == 4
    })
    .await;
    assert_eq!(offline, [1, 2, 3, 4].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_etcd_v3_nothing_that_expired_or_was_deleted_comes_back() {
    let Some(etcd) = Etcd::start() else { return };
    nothing_comes_back("etcd", &etcd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_etcd_v2_nothing_that_expired_or_was_deleted_comes_back() {
    let Some(etcd) = Etcd::start_v2() else { return };
    nothing_comes_back("etcd2", &etcd).await;
}

/// A service that would become empty by an expiry is kept, and each instance that returns replaces its suspect.
#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_of_a_whole_service_keeps_it_as_suspect() {
    let Some(etcd) = Etcd::start() else { return };
    let watcher = client("etcd", &etcd).await;
    let set = watcher.services("web").unwrap();
    let granted = etcd.ctl(&["lease", "grant", "2"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    for port in 1..=5 {
        etcd.ctl(&["put", &Fleet::key(port), "null", "--lease", lease]);
    }
    set.wait(5, WAIT_TIMEOUT).await.unwrap();
    let suspects = || set.online().iter().filter(|i| i.is_suspect()).count();
    eventually("all are suspects", async || suspects() == 5).await;
    etcd.ctl(&["put", &Fleet::key(3), "null"]);
    eventually("one suspect is replaced", async || suspects() == 4).await;
}

/// G24: no timer delays a removal, whatever the size of the set. Time stands still unless something waits for it.
#[tokio::test(start_paused = true)]
async fn a_removal_waits_for_no_timer() {
    let client = Client::connect("memory://").await.unwrap();
    let set = client.services("web").unwrap();
    let mut leases = Vec::new();
    for port in 1..=10 {
        leases.push(client.register(web(port)).await.unwrap());
    }
    set.wait(10, WAIT_TIMEOUT).await.unwrap();
    let mut left = 10;
    for lease in leases {
        let start = Instant::now();
        lease.unregister().await.unwrap();
        left -= 1;
        while set.online().len() > left {
            tokio::task::yield_now().await;
        }
        assert!(
            start.elapsed() < Duration::from_millis(1),
            "{left} are left"
        );
    }
}

/// Beside 20 stable instances, 20 are killed, restarted, deleted and revoked: the set differs from the store only while
/// a change is on its way. `make soak` runs five minutes.
async fn churn(scheme: &str, etcd: &Etcd) {
    let mut fleet = Fleet {
        etcd,
        is_v2: scheme == "etcd2",
        leases: BTreeMap::new(),
    };
    let watcher = client(scheme, etcd).await;
    let set = watcher.services("web").unwrap();
    for port in 1..=20 {
        fleet.register(port, 3600);
    }
    let seconds = if std::env::var_os("DISCOVER_SOAK").is_some() {
        300
    } else {
        5
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in (0u32..).take_while(|_| Instant::now() < end) {
        let port = 21 + (round * 7 % 20) as u16;
        match round % 4 {
            // A process that is killed: its lease ends.
            0 => fleet.register(port, 1),
            1 => fleet.register(port, 3600),
            2 => fleet.delete(port.wrapping_sub(7).max(21)),
            _ => fleet.revoke(port.wrapping_sub(7).max(21)),
        }
        let agree = async || ports(&set) == fleet.present();
        let late = Instant::now() + Duration::from_secs(1);
        while !agree().await {
            assert!(
                Instant::now() < late,
                "round {round}: the set is {:?}, the store {:?}",
                ports(&set),
                fleet.present()
            );
            sleep(Duration::from_millis(5)).await; // tidy: sleep, a poll with a deadline
        }
        assert!(set.online().iter().all(|instance| !instance.is_suspect()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_on_etcd_v3_is_followed_without_a_wrong_second() {
    let Some(etcd) = Etcd::start() else { return };
    churn("etcd", &etcd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn churn_on_etcd_v2_is_followed_without_a_wrong_second() {
    let Some(etcd) = Etcd::start_v2() else { return };
    churn("etcd2", &etcd).await;
}
