//! The one connection of a client, and the one task that speaks on it: it does what the [`Follower`]
//! says and tells it what came of it. Nothing is decided here.

mod session;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Result};
use crate::follow::{Counts, Follower, Input, Keys, Output, PartId};
use crate::store::etcd3::Config;
use crate::tree::{Changes, Scope};
use session::{News, Session};

/// How long a call waits for a connection that broke to be made again elsewhere.
const MOMENT: Duration = Duration::from_millis(250);

/// The connection, as others see it.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one for each connection")]
pub(super) enum Line {
    /// Not there; with the reason, once there is one.
    Down(Option<Error>),
    /// There. The number tells connections apart.
    Up(u64, Client),
}

/// The handle to the task. The task ends with the last handle.
pub(super) struct Hub {
    orders: mpsc::UnboundedSender<Order>,
    line: watch::Receiver<Line>,
    parts: AtomicU64,
    log: Arc<Mutex<Log>>,
}

/// What the task leaves for others to read: what it has been through, and when it last heard the store
/// on a watch.
#[derive(Clone, Copy, Default)]
struct Log {
    counts: Counts,
    heard: Option<Instant>,
}

enum Order {
    Follow(PartId, Scope, Option<Keys>, Sink),
    Forget(PartId),
    Want,
    /// A call on this connection got no answer.
    Doubt(u64, Error),
}

type Sink = mpsc::UnboundedSender<Result<Changes>>;

impl Hub {
    /// Starts the task, on the runtime that this runs on. It connects when somebody needs it.
    pub(super) fn start(config: Arc<Config>) -> Hub {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (line, told) = watch::channel(Line::Down(None));
        let log = Arc::new(Mutex::new(Log::default()));
        let (sender, news) = mpsc::unbounded_channel();
        let driver = Driver {
            follower: Follower::new(config.endpoints.len(), fastrand::u64(..)),
            start: Instant::now(),
            session: Session::new(config, sender),
            sinks: HashMap::new(),
            line,
            log: log.clone(),
        };
        tokio::spawn(driver.run(inbox, news));
        Hub {
            orders,
            line: told,
            parts: AtomicU64::new(1),
            log,
        }
    }

    /// The connection that is there now, or the next one; the reason why there is none, once it is known.
    pub(super) async fn connection(&self) -> Result<(u64, Client)> {
        let mut line = self.line.clone();
        self.order(Order::Want);
        let there = |line: &Line| matches!(line, Line::Up(..));
        // A moment, for it to be made elsewhere.
        let _ = timeout(MOMENT, line.wait_for(there)).await;
        let known = |line: &Line| !matches!(line, Line::Down(None));
        match line.wait_for(known).await.map(|line| line.clone()) {
            Ok(Line::Up(number, client)) => Ok((number, client)),
            Ok(Line::Down(Some(error))) => Err(error),
            Ok(Line::Down(None)) | Err(_) => Err(over()),
        }
    }

    /// Waits until that connection is no more.
    pub(super) async fn broken(&self, number: u64) -> Error {
        let mut line = self.line.clone();
        let other = |line: &Line| !matches!(line, Line::Up(now, _) if *now == number);
        match line.wait_for(other).await.map(|line| line.clone()) {
            Ok(Line::Down(Some(error))) => error,
            _ => over(),
        }
    }

    /// Says that a call on that connection got no answer.
    pub(super) fn doubt(&self, number: u64, error: Error) {
        self.order(Order::Doubt(number, error));
    }

    /// Follows a part, from what is known of it or from a list. Goes on after errors.
    pub(super) fn follow(
        &self,
        scope: Scope,
        known: Option<Keys>,
    ) -> BoxStream<'static, Result<Changes>> {
        let id = self.parts.fetch_add(1, Ordering::Relaxed);
        let (sink, changes) = mpsc::unbounded_channel();
        self.order(Order::Follow(id, scope, known, sink));
        let follower = Follows(id, self.orders.clone());
        stream::unfold((changes, follower), |(mut changes, follower)| async move {
            let next = changes.recv().await?;
            Some((next, (changes, follower)))
        })
        .boxed()
    }

    pub(super) fn line(&self) -> watch::Receiver<Line> {
        self.line.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.log().counts
    }

    /// How long ago the store was last heard on the watches.
    pub(super) fn lag(&self) -> Duration {
        self.log()
            .heard
            .map_or(Duration::ZERO, |heard| heard.elapsed())
    }

    fn log(&self) -> Log {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        // The task lives as long as any handle does, unless its runtime is gone.
        let _ = self.orders.send(order);
    }
}

/// Somebody who follows a part; drops it when dropped.
struct Follows(PartId, mpsc::UnboundedSender<Order>);

impl Drop for Follows {
    fn drop(&mut self) {
        let _ = self.1.send(Order::Forget(self.0));
    }
}

struct Driver {
    follower: Follower,
    start: Instant,
    session: Session,
    sinks: HashMap<PartId, (Scope, Sink)>,
    line: watch::Sender<Line>,
    log: Arc<Mutex<Log>>,
}

impl Driver {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut news: mpsc::UnboundedReceiver<(u64, News)>,
    ) {
        loop {
            let wake = self.follower.wake().map(|wake| self.start + wake);
            let asleep = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                Some((number, news)) = news.recv() => {
                    // What comes from a connection that was given up says nothing any more.
                    if number == self.session.number() {
                        self.hear(news);
                    }
                }
                () = asleep => self.step(Input::Tick),
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Follow(id, scope, known, sink) => {
                self.sinks.insert(id, (scope, sink));
                self.step(Input::Follow(id, known));
            }
            Order::Forget(id) => {
                self.sinks.remove(&id);
                self.step(Input::Forget(id));
            }
            Order::Want => self.step(Input::Want),
            Order::Doubt(number, error) if number == self.session.number() => {
                self.step(Input::Broken(error));
            }
            Order::Doubt(..) => {}
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Opened(client, verdict, head) => {
                self.session.opened(client.clone());
                self.line
                    .send_replace(Line::Up(self.session.number(), client));
                self.step(Input::Opened { verdict, head });
            }
            News::Response(response) => {
                for input in self.session.read(response) {
                    self.step(input);
                }
            }
            News::Answer(input) => self.step(input),
        }
    }

    /// One step of the machine, and what it says is to be done.
    fn step(&mut self, input: Input) {
        let outputs = self.follower.step(input, self.start.elapsed());
        for output in outputs {
            self.obey(output);
        }
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Log {
            counts: self.follower.counts(),
            heard: self.follower.heard().map(|heard| self.start + heard),
        };
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Open { endpoint, mark } => self.session.open(endpoint, mark),
            Output::Close(error) => {
                self.session.close();
                self.line.send_replace(Line::Down(Some(error)));
            }
            Output::List(id) => {
                if let Some((scope, _)) = self.sinks.get(&id) {
                    self.session.list(id, scope);
                }
            }
            Output::Compare(id) => {
                if let Some((scope, _)) = self.sinks.get(&id) {
                    self.session.compare(id, scope);
                }
            }
            Output::Watch(id, ticket, from) => {
                if let Some((scope, _)) = self.sinks.get(&id) {
                    self.session.watch(ticket, scope, from);
                }
            }
            Output::Unwatch(ticket) => self.session.unwatch(ticket),
            Output::AskSign => self.session.ask_sign(),
            Output::Tell(id, changes) => self.tell(id, Ok(changes)),
            Output::Lost(id, error) => self.tell(id, Err(error)),
        }
    }

    fn tell(&self, id: PartId, item: Result<Changes>) {
        if let Some((_, sink)) = self.sinks.get(&id) {
            // Whoever has stopped listening says `Forget` next.
            let _ = sink.send(item);
        }
    }
}

fn over() -> Error {
    Error::new(
        crate::error::Kind::Unavailable,
        "the connection was given up",
    )
}
