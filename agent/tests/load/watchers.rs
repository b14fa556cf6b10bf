//! Those who watch: streams of events over HTTP, and sets of the library.

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

use crate::fold::{Listener, Redacted};
use crate::http::Caller;
use crate::world::{Phase, World};

/// The agent says something every two seconds; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// One that listens to one service, over as many streams as it takes. Gives what it saw, if that is kept
/// for the judge.
pub struct Watcher {
    world: Arc<World>,
    number: usize,
    service: usize,
    listener: Listener,
    /// The id that it was told last.
    last: Option<String>,
    kept: Option<Kept>,
}

/// What is kept of a watcher for the judge.
#[derive(Default)]
struct Kept {
    seen: Observations,
    set: history::Set,
    /// What it held before it was told anew.
    before: Option<history::Set>,
}

#[derive(Deserialize)]
struct Told<'a> {
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
    pub fn new(world: Arc<World>, number: usize, is_kept: bool) -> Watcher {
        Watcher {
            service: number % world.scale.services,
            world,
            number,
            listener: Listener::default(),
            last: None,
            kept: is_kept.then(Default::default),
        }
    }

    /// Listens until all is over.
    pub async fn listen(mut self) -> (usize, Option<Observations>) {
        let world = self.world.clone();
        while !world.is(Phase::Over) {
            tokio::select! {
                _ = self.stream() => {}
                () = world.until(Phase::Over) => {}
            }
            // Those who lost it together do not come back together.
            sleep(Duration::from_millis(fastrand::u64(20..200))).await; // tidy: sleep, as a browser does
        }
        (self.service, self.kept.map(|kept| kept.seen))
    }

    async fn stream(&mut self) -> io::Result<()> {
        let path = format!("/v1/services/{}/events", World::service(self.service));
        let response = Caller::stream(&self.world.place, &path, self.last.as_deref()).await?;
        if response.status() != 200 {
            self.world.broke(format!("{path}: {}", response.status()));
            return Ok(());
        }
        self.world.streams.fetch_add(1, Ordering::Relaxed);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = timeout(SILENCE, body.frame()).await? {
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
                self.world.resets.fetch_add(1, Ordering::Relaxed);
                self.listener.reset();
                if let Some(kept) = &mut self.kept {
                    let held = std::mem::take(&mut kept.set);
                    kept.before.get_or_insert(held);
                }
                Ok(())
            }
            "status" => self.status(data, id),
            "leader" if data == "null" => self.listener.event(kind, "", (0, 0)),
            "up" | "update" | "down" | "leader" => self.event(kind, data),
            _ => Ok(()),
        };
        if let Err(why) = done {
            self.world.broke(format!("watcher {}: {why}", self.number));
        }
    }

    fn event(&mut self, kind: &str, data: &str) -> Result<(), String> {
        let told: Told<'_> = serde_json::from_str(data).map_err(|e| format!("{data}: {e}"))?;
        let number = told.attributes.n.parse();
        let number = number.map_err(|e| format!("{data}: {e}"))?;
        if matches!(kind, "up" | "update") {
            self.world.heard(number);
        }
        if let Some(kept) = &mut self.kept {
            kept.event(kind, &told);
        }
        self.listener.event(kind, &told.id, (told.created, number))
    }

    fn status(&mut self, data: &str, id: &str) -> Result<(), String> {
        let told: Status<'_> = serde_json::from_str(data).map_err(|e| format!("{data}: {e}"))?;
        if told.index != id || self.last.as_deref() == Some(id) {
            return Err(format!("{id} after {:?}, with {data}", self.last));
        }
        self.last = Some(id.to_owned());
        if told.state == "pending" {
            return Ok(());
        }
        if let Some(kept) = &mut self.kept {
            kept.status(&told);
        }
        let revision = told.revision;
        let digest = self.listener.fold.digest;
        self.world.saw(self.number, self.service, revision, digest);
        self.listener.status(revision)
    }
}

impl Kept {
    fn event(&mut self, kind: &str, told: &Told<'_>) {
        let (id, created) = (told.id.clone().into_owned(), told.created);
        match kind {
            "down" => drop(self.set.remove(&id)),
            "leader" => return,
            _ => {
                let attributes = [("n".to_owned(), told.attributes.n.clone())].into();
                let instance = history::Instance {
                    created,
                    attributes,
                };
                self.set.insert(id.clone(), Arc::new(instance));
            }
        }
        if self.before.is_none() {
            self.tell(kind, id, created);
        }
    }

    fn status(&mut self, told: &Status<'_>) {
        if let Some(before) = self.before.take() {
            self.tell_difference(&before);
        }
        let state = match &*told.state {
            "current" => State::Current,
            _ => State::Stale,
        };
        self.seen.snapshots.push(Snapshot {
            at: now(),
            state,
            revision: told.revision,
            set: self.set.clone(),
            suspects: history::Set::new(),
        });
    }

    /// Whoever is told anew has to find out by itself what differs.
    fn tell_difference(&mut self, before: &history::Set) {
        let now = self.set.clone();
        let same = |set: &history::Set, id: &String, created| {
            set.get(id).is_some_and(|there| there.created == created)
        };
        for (id, old) in before {
            if !same(&now, id, old.created) {
                self.tell("down", id.clone(), old.created);
            }
        }
        for (id, new) in &now {
            match same(before, id, new.created) {
                true if before.get(id) == Some(new) => {}
                true => self.tell("update", id.clone(), new.created),
                false => self.tell("up", id.clone(), new.created),
            }
        }
    }

    fn tell(&mut self, kind: &str, id: String, created: u64) {
        let (at, kind) = (now(), kind.to_owned());
        self.seen.events.push(watcher_output::Event {
            at,
            kind,
            id,
            created,
        });
    }
}

/// One that listens with the library.
pub async fn listen_by_library(world: Arc<World>, number: usize, client: Client) {
    let service = number % world.scale.services;
    let set = client.services(&World::service(service)).unwrap();
    let (mut cursor, mut listener) = (set.cursor(), Listener::default());
    loop {
        tokio::select! {
            open = cursor.changed() => if !open { return },
            () = world.until(Phase::Over) => return,
        }
        for event in cursor.drain() {
            let (id, shown) = event
                .instance()
                .map_or(("", (0, 0)), |i| (i.id(), shown(i)));
            if matches!(event, Event::Up(_) | Event::Update(_)) {
                world.heard(shown.1);
            }
            if let Err(why) = listener.event(event.kind(), id, shown) {
                world.broke(format!("client {number}: {why}"));
            }
        }
        let now = cursor.seen();
        if !now.is_ready() {
            continue;
        }
        world.saw(number, service, now.revision(), listener.fold.digest);
        if let Err(why) = listener.status(now.revision()) {
            world.broke(format!("client {number}: {why}"));
        }
    }
}

fn shown(instance: &Instance) -> Redacted {
    let number = instance.attributes().get("n");
    let number = number.and_then(|n| n.parse().ok());
    (instance.created(), number.unwrap_or(0))
}
