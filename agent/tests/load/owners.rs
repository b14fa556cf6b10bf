//! The applications: most speak HTTP, some use the library. Each has instances of its own, which it
//! changes, takes away and brings back, and says of each that it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use discover_core::{Client, Lease, Registration};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};

use crate::http::Caller;
use crate::world::{Phase, World};

/// How many instances an application has that speaks HTTP: few enough that the rate does not hang on how
/// soon each is answered, and so many that its connection is never idle.
const SHARE: usize = 150;
/// One instance of so many belongs to a client of the library.
const LIBRARY: usize = 5;

/// An instance: its service, its id, and the number of the write that it shows; none while it is away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Own {
    pub service: usize,
    pub id: String,
    pub shows: Option<u64>,
}

/// The instances of all applications, each with its share.
pub fn shares(world: &World, clients: usize) -> (Vec<Vec<Own>>, Vec<Vec<Own>>) {
    let many = world.scale.instances / SHARE;
    let mut plain = vec![Vec::new(); many];
    let mut library = vec![Vec::new(); clients];
    for number in 0..world.scale.instances {
        let own = Own {
            service: number % world.scale.services,
            id: format!("10.{}.{}.1:80", number / 250, number % 250),
            shows: None,
        };
        match number / world.scale.services % LIBRARY {
            0 if clients > 0 => library[number % clients].push(own),
            _ => plain[number % many].push(own),
        }
    }
    (plain, library)
}

/// One that speaks HTTP.
pub struct Plain {
    world: Arc<World>,
    caller: Caller,
    all: Vec<Own>,
}

impl Plain {
    pub fn new(world: Arc<World>, all: Vec<Own>) -> Plain {
        Plain {
            caller: Caller::new(&world.place),
            world,
            all,
        }
    }

    /// Registers all, changes them for a time, keeps them alive until all is over; gives how they are.
    pub async fn live(mut self) -> Vec<Own> {
        let world = self.world.clone();
        for at in 0..self.all.len() {
            self.put(at, world.next()).await;
        }
        let share = self.all.len() as f64 / world.scale.instances as f64;
        let change = Duration::from_secs_f64(1.0 / (world.scale.rate * share));
        let beat = world.scale.beat / self.all.len() as u32;
        let (mut changes, mut beats) = (interval(change), interval(beat));
        let mut next = 0;
        // Whoever was held up catches up: the rate is what was asked for.
        let mut begun = false;
        while !world.is(Phase::Over) {
            tokio::select! {
                _ = beats.tick() => {
                    next = (next + 1) % self.all.len();
                    self.beat(next).await;
                }
                _ = changes.tick(), if *world.phase.borrow() == Phase::Changing => {
                    if !std::mem::replace(&mut begun, true) {
                        changes.reset();
                        continue;
                    }
                    if world.begin() {
                        self.change().await;
                        world.end();
                    }
                }
                () = world.until(Phase::Over) => {}
            }
        }
        self.all
    }

    async fn change(&mut self) {
        let (at, number) = (fastrand::usize(..self.all.len()), self.world.next());
        match self.all[at].shows {
            None => self.put(at, number).await,
            Some(_) if fastrand::u8(..4) == 0 => {
                // One that the agent does not know is brought back first, or others would go on to see it.
                while !self.remove(at).await {
                    self.put(at, number).await;
                }
                self.all[at].shows = None;
            }
            Some(_) => {
                let body = json!({ "attributes": { "n": number.to_string() } });
                match self.ask(at, Method::PATCH, "", &body).await {
                    404 => self.put(at, number).await,
                    _ => self.all[at].shows = Some(number),
                }
            }
        }
    }

    async fn remove(&mut self, at: usize) -> bool {
        self.world.removals.fetch_add(1, Ordering::Relaxed);
        self.ask(at, Method::DELETE, "", &Value::Null).await != 404
    }

    async fn put(&mut self, at: usize, number: u64) {
        let ttl = self.world.scale.ttl.as_millis() as u64;
        let body = json!({ "attributes": { "n": number.to_string() }, "ttl_ms": ttl });
        self.ask(at, Method::PUT, "", &body).await;
        self.all[at].shows = Some(number);
    }

    async fn beat(&mut self, at: usize) {
        let Some(number) = self.all[at].shows else {
            return;
        };
        if self.ask(at, Method::POST, "/heartbeat", &json!({})).await == 404 {
            self.world.returns.fetch_add(1, Ordering::Relaxed);
            self.put(at, number).await;
        }
    }

    /// Asks until it is answered; what is no answer to a right question is a fault.
    async fn ask(&mut self, at: usize, method: Method, what: &str, body: &Value) -> u16 {
        let Own { service, id, .. } = &self.all[at];
        let service = World::service(*service);
        let path = format!("/v1/services/{service}/instances/{id}{what}");
        loop {
            match self.caller.call(method.clone(), &path, body).await {
                Ok((status @ (200 | 204 | 404), _)) => return status,
                // What the store did not confirm in time is taken back.
                Ok((503 | 504, _)) => drop(self.world.removals.fetch_add(1, Ordering::SeqCst)),
                Err(_) => {}
                Ok((status, text)) => {
                    self.world
                        .broke(format!("{method} {path}: {status} {text}"));
                    return status;
                }
            }
            sleep(Duration::from_millis(50)).await; // tidy: sleep, before the next try
        }
    }
}

/// One that uses the library, with these instances.
pub async fn live_by_library(world: Arc<World>, client: Client, mut all: Vec<Own>) -> Vec<Own> {
    let mut leases: Vec<Lease> = Vec::new();
    for own in &mut all {
        let number = world.next();
        let registration = Registration::at(&World::service(own.service), &own.id).unwrap();
        let registration = registration
            .attributes([("n", number.to_string())])
            .unwrap();
        let registration = registration.ttl(world.scale.ttl).unwrap();
        let lease = loop {
            match client.register(registration.clone()).await {
                Ok(lease) => break lease,
                // What the store did not confirm in time is taken back.
                Err(_) => drop(world.removals.fetch_add(1, Ordering::SeqCst)),
            }
        };
        leases.push(lease);
        own.shows = Some(number);
    }
    let share = all.len() as f64 / world.scale.instances as f64;
    let change = Duration::from_secs_f64(1.0 / (world.scale.rate * share));
    let mut changes = interval(change);
    world.until(Phase::Changing).await;
    changes.reset();
    loop {
        tokio::select! {
            _ = changes.tick() => {}
            () = world.until(Phase::Resting) => break,
        }
        if !world.begin() {
            break;
        }
        let (at, number) = (fastrand::usize(..all.len()), world.next());
        let attributes = [("n", number.to_string())];
        while leases[at].update(attributes.clone()).await.is_err() {
            sleep(Duration::from_millis(50)).await; // tidy: sleep, before the next try
        }
        all[at].shows = Some(number);
        world.end();
    }
    world.until(Phase::Over).await;
    drop(leases);
    all
}
