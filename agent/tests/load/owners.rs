//! Owners of instances: most use HTTP, some the library. Each updates, removes and re-registers its instances
//! and sends their heartbeats.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use discover_core::{Client, Lease, Registration};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use crate::harness::{Harness, Phase};
use crate::http::HttpClient;

/// Number of instances of an HTTP owner: few enough that the rate of changes does not depend on the latency of
/// requests, and many enough that its connection is never idle.
const INSTANCES_PER_OWNER: usize = 150;
/// One in this many instances of each service belongs to an owner that uses the library.
const LIBRARY_OWNER_RATIO: usize = 5;

/// An instance with the number of its last write; `None` while it is not registered.
#[derive(Clone, Debug)]
pub struct OwnedInstance {
    pub service: usize,
    pub id: String,
    pub version: Option<u64>,
}

/// Distributes the instances over the HTTP owners and the library owners.
pub fn assign_instances(
    harness: &Harness,
    clients: usize,
) -> (Vec<Vec<OwnedInstance>>, Vec<Vec<OwnedInstance>>) {
    let many = harness.scale.instances / INSTANCES_PER_OWNER;
    let mut plain = vec![Vec::new(); many];
    let mut library = vec![Vec::new(); clients];
    for number in 0..harness.scale.instances {
        let own = OwnedInstance {
            service: number % harness.scale.services,
            id: format!("10.{}.{}.1:80", number / 250, number % 250),
            version: None,
        };
        match number / harness.scale.services % LIBRARY_OWNER_RATIO {
            0 if clients > 0 => library[number % clients].push(own),
            _ => plain[number % many].push(own),
        }
    }
    (plain, library)
}

/// Owner that uses HTTP.
pub struct HttpOwner {
    harness: Arc<Harness>,
    client: HttpClient,
    all: Vec<OwnedInstance>,
}

impl HttpOwner {
    pub fn new(harness: Arc<Harness>, all: Vec<OwnedInstance>) -> HttpOwner {
        HttpOwner {
            client: HttpClient::new(&harness.address),
            harness,
            all,
        }
    }

    /// Registers the instances, changes them during [`Phase::Changing`], and sends heartbeats until
    /// [`Phase::Finished`].
    pub async fn run(mut self) {
        let harness = self.harness.clone();
        for at in 0..self.all.len() {
            self.put(at, harness.next()).await;
        }
        let share = self.all.len() as f64 / harness.scale.instances as f64;
        let change = Duration::from_secs_f64(1.0 / (harness.scale.rate * share));
        let heartbeat = harness.scale.heartbeat / self.all.len() as u32;
        let (mut changes, mut heartbeats) = (interval(change), interval(heartbeat));
        let mut next = 0;
        // A delayed owner catches up, so that the rate stays as configured.
        let mut begun = false;
        while !harness.is(Phase::Finished) {
            tokio::select! {
                _ = heartbeats.tick() => {
                    next = (next + 1) % self.all.len();
                    self.heartbeat(next).await;
                }
                _ = changes.tick(), if *harness.phase.borrow() == Phase::Changing => {
                    if !std::mem::replace(&mut begun, true) {
                        changes.reset();
                        continue;
                    }
                    if harness.begin() {
                        self.change().await;
                        harness.end();
                    }
                }
                () = harness.until(Phase::Finished) => {}
            }
        }
    }

    async fn change(&mut self) {
        let (at, number) = (fastrand::usize(..self.all.len()), self.harness.next());
        match self.all[at].version {
            None => self.put(at, number).await,
            Some(_) if fastrand::u8(..4) == 0 => {
                // If the agent does not know the instance, it is registered again first; otherwise the store would keep
                // it until its TTL expires.
                while !self.remove(at).await {
                    self.put(at, number).await;
                }
                self.set_version(at, None);
            }
            Some(_) => {
                let body = json!({ "attributes": { "n": number.to_string() } });
                match self.request(at, Method::PATCH, "", &body).await {
                    404 => self.put(at, number).await,
                    _ => self.set_version(at, Some(number)),
                }
            }
        }
    }

    async fn remove(&mut self, at: usize) -> bool {
        self.harness.removals.fetch_add(1, Ordering::Relaxed);
        self.request(at, Method::DELETE, "", &Value::Null).await != 404
    }

    async fn put(&mut self, at: usize, number: u64) {
        let ttl = self.harness.scale.ttl.as_millis() as u64;
        let body = json!({ "attributes": { "n": number.to_string() }, "ttl_ms": ttl });
        self.request(at, Method::PUT, "", &body).await;
        self.set_version(at, Some(number));
    }

    fn set_version(&mut self, at: usize, version: Option<u64>) {
        self.all[at].version = version;
        self.harness.record_write(&self.all[at]);
    }

    async fn heartbeat(&mut self, at: usize) {
        let Some(number) = self.all[at].version else {
            return;
        };
        if self
            .request(at, Method::POST, "/heartbeat", &json!({}))
            .await
            == 404
        {
            self.harness.returns.fetch_add(1, Ordering::Relaxed);
            self.put(at, number).await;
        }
    }

    /// Sends a request until it is answered, and returns the status. An unexpected status is a violation.
    async fn request(&mut self, at: usize, method: Method, what: &str, body: &Value) -> u16 {
        let OwnedInstance { service, id, .. } = &self.all[at];
        let service = Harness::service(*service);
        let path = format!("/v1/services/{service}/instances/{id}{what}");
        loop {
            match self.client.call(method.clone(), &path, body).await {
                Ok((status @ (200 | 204 | 404), _)) => return status,
                // The agent removes a registration that the store did not confirm in time.
                Ok((503 | 504, _)) => drop(self.harness.removals.fetch_add(1, Ordering::SeqCst)),
                Err(_) => {}
                Ok((status, text)) => {
                    self.harness
                        .report_violation(format!("{method} {path}: {status} {text}"));
                    return status;
                }
            }
            sleep(Duration::from_millis(50)).await; // tidy: sleep, before the next attempt
        }
    }
}

/// Runs an owner that uses the library, with these instances.
pub async fn run_library_owner(harness: Arc<Harness>, client: Client, mut all: Vec<OwnedInstance>) {
    let mut leases: Vec<Lease> = Vec::new();
    for own in &mut all {
        let number = harness.next();
        let registration = Registration::at(&Harness::service(own.service), &own.id).unwrap();
        let registration = registration
            .attributes([("n", number.to_string())])
            .unwrap();
        let registration = registration.ttl(harness.scale.ttl).unwrap();
        let lease = loop {
            match client.register(registration.clone()).await {
                Ok(lease) => break lease,
                // The agent removes a registration that the store did not confirm in time.
                Err(_) => drop(harness.removals.fetch_add(1, Ordering::SeqCst)),
            }
        };
        leases.push(lease);
        own.version = Some(number);
        harness.record_write(own);
    }
    let share = all.len() as f64 / harness.scale.instances as f64;
    let change = Duration::from_secs_f64(1.0 / (harness.scale.rate * share));
    let mut changes = interval(change);
    harness.until(Phase::Changing).await;
    changes.reset();
    loop {
        tokio::select! {
            _ = changes.tick() => {}
            () = harness.until(Phase::Idle) => break,
        }
        if !harness.begin() {
            break;
        }
        let (at, number) = (fastrand::usize(..all.len()), harness.next());
        let attributes = [("n", number.to_string())];
        while leases[at].update(attributes.clone()).await.is_err() {
            sleep(Duration::from_millis(50)).await; // tidy: sleep, before the next attempt
        }
        all[at].version = Some(number);
        harness.record_write(&all[at]);
        harness.end();
    }
    harness.until(Phase::Finished).await;
}
