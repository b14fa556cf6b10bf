//! Watchers: event streams over HTTP, and service sets of the library.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use discover_core::{Client, Event, Instance};
use discover_faults::check::Observations;
use discover_faults::history;
use discover_faults::watcher_output::{self, Snapshot, State};
use discover_testkit::clock::now;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use crate::event_checker::{EventChecker, InstanceVersion};
use crate::harness::{Harness, Phase};
use crate::http::HttpClient;

/// Time after which a silent stream is considered dead. The agent sends something every two seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Watcher of one service that reopens its stream when it ends.
pub struct Watcher {
    harness: Arc<Harness>,
    number: usize,
    service: usize,
    checker: EventChecker,
    /// The last event id it received.
    last: Option<String>,
    recorded: Option<RecordedWatcher>,
}

/// Observations of a watcher, recorded for the checker.
#[derive(Default)]
struct RecordedWatcher {
    seen: Observations,
    set: history::Set,
    /// The set before a reset, until the next status event.
    before: Option<history::Set>,
}

#[derive(Deserialize)]
struct InstanceEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    created: u64,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Attributes {
    n: String,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    index: Cow<'a, str>,
    revision: u64,
}

impl Watcher {
    pub fn new(harness: Arc<Harness>, number: usize, is_recorded: bool) -> Watcher {
        Watcher {
            service: number % harness.scale.services,
            harness,
            number,
            checker: EventChecker::default(),
            last: None,
            recorded: is_recorded.then(Default::default),
        }
    }

    /// Watches until [`Phase::Finished`]. Returns the number of the service and the observations, if they are recorded.
    pub async fn watch(mut self) -> (usize, Option<Observations>) {
        let harness = self.harness.clone();
        while !harness.is(Phase::Finished) {
            tokio::select! {
                _ = self.stream() => {}
                () = harness.until(Phase::Finished) => {}
            }
            // Watchers that lost their streams together reconnect at different times.
            sleep(Duration::from_millis(fastrand::u64(20..200))).await; // tidy: sleep, as a browser does
        }
        (self.service, self.recorded.map(|recorded| recorded.seen))
    }

    async fn stream(&mut self) -> io::Result<()> {
        let path = format!("/v1/services/{}/events", Harness::service(self.service));
        let response =
            HttpClient::stream(&self.harness.address, &path, self.last.as_deref()).await?;
        if response.status() != 200 {
            self.harness
                .report_violation(format!("{path}: {}", response.status()));
            return Ok(());
        }
        self.harness.streams.fetch_add(1, Ordering::Relaxed);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = timeout(READ_TIMEOUT, body.frame()).await? {
            let frame = frame.map_err(io::Error::other)?;
            text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
            let mut done = 0;
            while let Some(length) = text[done..].windows(2).position(|two| two == b"\n\n") {
                self.block(&String::from_utf8_lossy(&text[done..done + length]));
                done += length + 2;
            }
            text.drain(..done);
        }
        Ok(())
    }

    fn block(&mut self, block: &str) {
        let (mut kind, mut data, mut id) = ("", "", "");
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", value)) => kind = value,
                Some(("data", value)) => data = value,
                Some(("id", value)) => id = value,
                _ => {}
            }
        }
        let done = match kind {
            "reset" => {
                self.harness.resets.fetch_add(1, Ordering::Relaxed);
                self.checker.reset();
                if let Some(recorded) = &mut self.recorded {
                    let held = std::mem::take(&mut recorded.set);
                    recorded.before.get_or_insert(held);
                }
                Ok(())
            }
            "status" => self.status(data, id),
            "leader" if data == "null" => self.checker.event(kind, "", (0, 0)),
            "up" | "update" | "down" | "leader" => self.event(kind, data),
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.harness
                .report_violation(format!("watcher {}: {why}", self.number));
        }
    }

    fn event(&mut self, kind: &str, data: &str) -> Result<(), String> {
        let event: InstanceEvent<'_> =
            serde_json::from_str(data).map_err(|e| format!("{data}: {e}"))?;
        let number = event.attributes.n.parse();
        let number = number.map_err(|e| format!("{data}: {e}"))?;
        if matches!(kind, "up" | "update") {
            self.harness.record_latency(number);
        }
        if let Some(recorded) = &mut self.recorded {
            recorded.event(kind, &event);
        }
        self.checker.event(kind, &event.id, (event.created, number))
    }

    fn status(&mut self, data: &str, id: &str) -> Result<(), String> {
        let event: Status<'_> = serde_json::from_str(data).map_err(|e| format!("{data}: {e}"))?;
        if event.index != id || self.last.as_deref() == Some(id) {
            return Err(format!("{id} after {:?}, with {data}", self.last));
        }
        self.last = Some(id.to_owned());
        if event.state == "pending" {
            return Ok(());
        }
        if let Some(recorded) = &mut self.recorded {
            recorded.status(&event);
        }
        let revision = event.revision;
        let digest = self.checker.instances.digest;
        self.harness
            .record_state(self.number, self.service, revision, digest);
        self.checker.status(revision)
    }
}

impl RecordedWatcher {
    fn event(&mut self, kind: &str, event: &InstanceEvent<'_>) {
        let (id, created) = (event.id.clone().into_owned(), event.created);
        match kind {
            "down" => drop(self.set.remove(&id)),
            "leader" => return,
            _ => {
                let attributes = [("n".to_owned(), event.attributes.n.clone())].into();
                let instance = history::Instance {
                    created,
                    attributes,
                };
                self.set.insert(id.clone(), Arc::new(instance));
            }
        }
        if self.before.is_none() {
            self.record(kind, id, created);
        }
    }

    fn status(&mut self, event: &Status<'_>) {
        if let Some(before) = self.before.take() {
            self.record_difference(&before);
        }
        let state = match &*event.state {
            "current" => State::Current,
            _ => State::Stale,
        };
        self.seen.snapshots.push(Snapshot {
            at: now(),
            state,
            revision: event.revision,
            set: self.set.clone(),
            suspects: history::Set::new(),
        });
    }

    /// After a reset, the recorded events are derived from the difference.
    fn record_difference(&mut self, before: &history::Set) {
        let now = self.set.clone();
        let same = |set: &history::Set, id: &String, created| {
            set.get(id).is_some_and(|there| there.created == created)
        };
        for (id, old) in before {
            if !same(&now, id, old.created) {
                self.record("down", id.clone(), old.created);
            }
        }
        for (id, new) in &now {
            match same(before, id, new.created) {
                true if before.get(id) == Some(new) => {}
                true => self.record("update", id.clone(), new.created),
                false => self.record("up", id.clone(), new.created),
            }
        }
    }

    fn record(&mut self, kind: &str, id: String, created: u64) {
        let (at, kind) = (now(), kind.to_owned());
        self.seen.events.push(watcher_output::Event {
            at,
            kind,
            id,
            created,
        });
    }
}

/// Watches a service with the library.
pub async fn watch_by_library(harness: Arc<Harness>, number: usize, client: Client) {
    let service = number % harness.scale.services;
    let set = client.services(&Harness::service(service)).unwrap();
    let (mut cursor, mut checker) = (set.cursor(), EventChecker::default());
    loop {
        tokio::select! {
            open = cursor.changed() => if !open { return },
            () = harness.until(Phase::Finished) => return,
        }
        for event in cursor.drain() {
            let (id, version) = event
                .instance()
                .map_or(("", (0, 0)), |i| (i.id(), version_of(i)));
            if matches!(event, Event::Up(_) | Event::Update(_)) {
                harness.record_latency(version.1);
            }
            if let Err(why) = checker.event(event.kind(), id, version) {
                harness.report_violation(format!("client {number}: {why}"));
            }
        }
        let now = cursor.seen();
        if !now.is_ready() {
            continue;
        }
        harness.record_state(number, service, now.revision(), checker.instances.digest);
        if let Err(why) = checker.status(now.revision()) {
            harness.report_violation(format!("client {number}: {why}"));
        }
    }
}

fn version_of(instance: &Instance) -> InstanceVersion {
    let number = instance.attributes().get("n");
    let number = number.and_then(|n| n.parse().ok());
    (instance.created(), number.unwrap_or(0))
}
