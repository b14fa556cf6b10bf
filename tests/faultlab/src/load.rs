//! The write load: creates, changes and deletes instances of one service with the plain etcd client.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use etcd_client::{Client, PutOptions, Txn, TxnOp};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep};

use crate::ground_truth::ROOT;
use crate::netns::Host;
use crate::raw_client::{self, Login};
use discover_testkit::clock::{Micros, now, wait_until};

/// The service of the load.
pub const SERVICE: &str = "load";

/// Number of distinct instances.
const INSTANCES: usize = 40;

/// Maximum writes per second of one worker.
const WRITES_PER_WORKER: f64 = 60.0;

/// The writers. They stop when dropped.
pub struct Load {
    shared: Arc<LoadState>,
    threads: Vec<JoinHandle<()>>,
    admin: Host,
}

struct LoadState {
    stop: AtomicBool,
    paused: AtomicBool,
    busy: AtomicUsize,
    sequence: AtomicU64,
    members: Vec<Ipv4Addr>,
    login: Mutex<Login>,
    committed: Mutex<Vec<(Micros, u64)>>,
    failed: Mutex<Vec<Micros>>,
}

impl Load {
    /// Starts to write `rate` times per second.
    pub fn start(admin: &Host, members: &[Ipv4Addr], rate: f64, login: Login) -> Load {
        let shared = Arc::new(LoadState {
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            sequence: AtomicU64::new(0),
            members: members.to_vec(),
            login: Mutex::new(login),
            committed: Mutex::default(),
            failed: Mutex::default(),
        });
        let workers = (rate / WRITES_PER_WORKER).ceil().max(1.0);
        let spawn = |number| {
            let shared = shared.clone();
            raw_client::spawn(admin, move || async move {
                shared.work(number, rate / workers).await
            })
        };
        Load {
            threads: (0..workers as usize).map(spawn).collect(),
            admin: admin.clone(),
            shared,
        }
    }

    /// Stops writing, and returns once no write is in flight.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        wait_until(10.0, || self.shared.busy.load(Ordering::SeqCst) == 0);
    }

    /// Continues to write.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// Stops writing and leaves half of the instances, none of which expires.
    pub fn stop_with_stable_set(&self) -> Result<(), String> {
        self.pause();
        let (shared, from) = (self.shared.clone(), now());
        let settling = raw_client::spawn(&self.admin, move || async move {
            for attempt in 0..60 {
                let member = shared.members[attempt % shared.members.len()];
                if let Ok(revision) = shared.write_all(member).await {
                    shared.committed().push((now(), revision));
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        let _ = settling.join();
        let settled = self.committed_between(from, Micros::MAX) > 0;
        settled
            .then_some(())
            .ok_or_else(|| "the load does not stop".to_owned())
    }

    /// Returns how many writes were confirmed in an interval.
    pub fn committed_between(&self, from: Micros, to: Micros) -> usize {
        count(&self.shared.committed(), from, to, |c| c.0)
    }

    /// Returns how many writes failed in an interval.
    pub fn failed_between(&self, from: Micros, to: Micros) -> usize {
        count(&self.shared.failed(), from, to, |at| *at)
    }

    /// Returns times and revisions of all confirmed writes.
    pub fn revisions(&self) -> Vec<(Micros, u64)> {
        self.shared.committed().clone()
    }

    /// Waits until a write succeeds that began after this call.
    pub fn wait_writable(&self) -> Result<(), String> {
        let from = now();
        let written = wait_until(30.0, || self.committed_between(from, Micros::MAX) > 1);
        written
            .then_some(())
            .ok_or_else(|| "writes keep failing".to_owned())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn count<T>(all: &[T], from: Micros, to: Micros, at: impl Fn(&T) -> Micros) -> usize {
    all.iter()
        .filter(|one| (from..=to).contains(&at(one)))
        .count()
}

impl LoadState {
    fn committed(&self) -> MutexGuard<'_, Vec<(Micros, u64)>> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Vec<Micros>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn login(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self, number: usize, rate: f64) {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut member = number;
        let mut client = None;
        while !self.stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            self.busy.fetch_add(1, Ordering::SeqCst);
            if self.paused.load(Ordering::SeqCst) {
                self.busy.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let written = self
                .write(&mut client, self.members[member % self.members.len()])
                .await;
            self.busy.fetch_sub(1, Ordering::SeqCst);
            match written {
                Ok(revision) => self.committed().push((now(), revision)),
                Err(_) => {
                    self.failed().push(now());
                    // The next member may be healthy.
                    member += 1;
                    client = None;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn write(
        &self,
        client: &mut Option<Client>,
        member: Ipv4Addr,
    ) -> Result<u64, etcd_client::Error> {
        let login = self.login().clone();
        let client = match client {
            Some(client) => client,
            none => none.insert(raw_client::connect(member, &login).await?),
        };
        // One write in fourteen changes five instances in one revision.
        let count = if fastrand::u8(..14) == 0 { 5 } else { 1 };
        let mut chosen: Vec<usize> = (0..INSTANCES).collect();
        fastrand::shuffle(&mut chosen);
        let mut operations = Vec::new();
        for &instance in &chosen[..count] {
            operations.push(self.operation(client, instance).await?);
        }
        let answer = raw_client::within(client.txn(Txn::new().and_then(operations))).await?;
        Ok(answer.header().map_or(0, |header| header.revision() as u64))
    }

    async fn write_all(&self, member: Ipv4Addr) -> Result<u64, etcd_client::Error> {
        let login = self.login().clone();
        let mut client = raw_client::connect(member, &login).await?;
        let one = |instance: usize| match instance % 2 {
            0 => TxnOp::put(key(instance), format!(r#"{{"last":"{instance}"}}"#), None),
            _ => TxnOp::delete(key(instance), None),
        };
        let all: Vec<TxnOp> = (0..INSTANCES).map(one).collect();
        let answer = client.txn(Txn::new().and_then(all)).await?;
        Ok(answer.header().map_or(0, |header| header.revision() as u64))
    }

    async fn operation(
        &self,
        client: &mut Client,
        instance: usize,
    ) -> Result<TxnOp, etcd_client::Error> {
        let key = key(instance);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let value = format!(r#"{{"n":"{sequence}","text":"é \" {instance}"}}"#);
        Ok(match fastrand::u8(..10) {
            0 | 1 => TxnOp::delete(key, None),
            // An instance that expires.
            2 => {
                let lease =
                    raw_client::within(client.lease_grant(fastrand::i64(2..5), None)).await?;
                TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease.id())))
            }
            3 => TxnOp::put(key, "null", None),
            _ => TxnOp::put(key, value, None),
        })
    }
}

/// Returns the key of an instance of the load.
pub fn key(instance: usize) -> String {
    format!("{ROOT}{SERVICE}/10.8.0.{instance}:8080")
}
