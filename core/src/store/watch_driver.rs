//! The one connection of a client, and the one task that speaks on it: it does what the [`Follower`]
//! says and tells it what came of it. Nothing is decided here.
//!
//! How a connection is made, and what is said on it, is the store's: see [`Session`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::pending;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Changes, Scope};
use crate::model::{ConnectionState, Metrics};
use crate::store::coalescing_channel::{CoalescingReceiver, CoalescingSender, coalescing_channel};
use crate::watch_sync::{
    Checkpoint, CheckpointStatus, Follower, Input, KeyRevisions, Output, RangeId, SyncCounters,
    WatchId,
};

/// How long a call waits for a connection that broke to be made again elsewhere.
const MOMENT: Duration = Duration::from_millis(250);
/// The bound of every single call.
const CALL: Duration = Duration::from_secs(5);

/// One connection at a time, and all that is asked on it. It tells its answers as [`SessionEvent`].
pub(super) trait Session: Send + 'static {
    /// What calls are made with. Cheap to clone.
    type Client: Clone + Send + Sync + 'static;
    /// What the session itself reads, in the order in which it came.
    type Response: Send + 'static;

    /// Which connection this is.
    fn number(&self) -> u64;

    /// Connects to that endpoint, logs in, and reads the mark.
    fn open(&mut self, endpoint: usize, mark: Option<Checkpoint>);

    /// The connection that was opened is used from now on.
    fn opened(&mut self, client: Self::Client);

    /// Ends all that runs on the connection, and the connection.
    fn close(&mut self);

    /// Lists everything in the scope.
    fn list(&mut self, id: RangeId, scope: &Scope);

    /// Lists the keys in the scope.
    fn compare(&mut self, id: RangeId, scope: &Scope);

    /// Watches the scope from this revision on.
    fn watch(&mut self, id: RangeId, ticket: WatchId, scope: &Scope, from: u64);

    /// Ends that watch.
    fn unwatch(&mut self, ticket: WatchId);

    /// Nobody follows this part any more.
    fn forget(&mut self, _id: RangeId) {}

    /// Asks for a sign of life.
    fn ask_sign(&mut self);

    /// What a response says.
    fn read(&mut self, response: Self::Response) -> Vec<Input>;

    /// What the watches say next, and all that they have said besides by then; never, where that comes
    /// as [`SessionEvent`]. Dropped before it is there, it has heard nothing.
    fn heard(&mut self) -> impl Future<Output = Vec<Input>> + Send {
        pending()
    }
}

/// What a connection brings. Small, for a thousand lists are answered together.
pub(super) enum SessionEvent<S: Session> {
    Opened(Box<S::Client>, CheckpointStatus, u64),
    Response(S::Response),
    Answer(Input),
}

/// Where news go, with the number of the connection that they come from.
pub(super) type EventSender<S> = mpsc::UnboundedSender<(u64, SessionEvent<S>)>;

/// All that runs on a connection.
pub(super) struct Tasks<S: Session> {
    tell: EventSender<S>,
    number: u64,
    running: JoinSet<()>,
}

impl<S: Session> Tasks<S> {
    pub(super) fn new(tell: EventSender<S>) -> Tasks<S> {
        let running = JoinSet::new();
        let number = 0;
        Tasks {
            tell,
            number,
            running,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Another connection begins.
    pub(super) fn begin(&mut self) {
        self.end();
        self.number += 1;
    }

    pub(super) fn end(&mut self) {
        self.running.abort_all();
        self.running = JoinSet::new();
    }

    /// Where what runs on this connection tells more than its end.
    pub(super) fn teller(&self) -> impl Fn(SessionEvent<S>) + Send + Sync + 'static {
        let (tell, number) = (self.tell.clone(), self.number);
        // Nobody hears it once the hub has ended.
        move |news| drop(tell.send((number, news)))
    }

    /// Runs something on the connection and tells what comes of it.
    pub(super) fn run(
        &mut self,
        work: impl Future<Output = SessionEvent<S>> + Send + 'static,
    ) -> AbortHandle {
        while self.running.try_join_next().is_some() {}
        let tell = self.teller();
        self.running.spawn(async move { tell(work.await) })
    }
}

/// The connection, as others see it.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one for each connection")]
enum LinkState<C> {
    /// Not there; with the reason, once there is one.
    Down(Option<Error>),
    /// There. The number tells connections apart.
    Up(u64, C),
}

/// The handle to the task. The task ends with the last handle.
pub(super) struct WatchDriver<S: Session> {
    orders: mpsc::UnboundedSender<Order>,
    line: watch::Receiver<LinkState<S::Client>>,
    parts: AtomicU64,
    log: Arc<Mutex<DriverStats>>,
}

/// What the task leaves for others to read: what it has been through, and when it last heard the store
/// on a watch.
#[derive(Clone, Copy, Default)]
struct DriverStats {
    counts: SyncCounters,
    heard: Option<Instant>,
}

enum Order {
    Follow(RangeId, Scope, Option<KeyRevisions>, CoalescingSender),
    Forget(RangeId),
    Want,
    /// A call on this connection got no answer.
    Doubt(u64, Error),
}

impl<S: Session> WatchDriver<S> {
    /// Starts the task, on the runtime that this runs on. It connects when somebody needs it, to one of
    /// so many endpoints.
    pub(super) fn start(
        endpoints: usize,
        session: impl FnOnce(EventSender<S>) -> S,
    ) -> WatchDriver<S> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (line, told) = watch::channel(LinkState::Down(None));
        let log = Arc::new(Mutex::new(DriverStats::default()));
        let (sender, news) = mpsc::unbounded_channel();
        let driver = DriverTask {
            follower: Follower::new(endpoints, fastrand::u64(..)),
            start: Instant::now(),
            session: session(sender),
            sinks: HashMap::new(),
            line,
            log: log.clone(),
        };
        tokio::spawn(driver.run(inbox, news));
        WatchDriver {
            orders,
            line: told,
            parts: AtomicU64::new(1),
            log,
        }
    }

    /// Waits for a connection. Making one reads something.
    pub(super) async fn probe(&self) -> Result<()> {
        self.connection().await.map(drop)
    }

    /// Runs one call within its bound, and no longer than the connection lives. `shown` names the store.
    pub(super) async fn run<T>(
        &self,
        shown: &str,
        call: impl AsyncFnOnce(S::Client) -> Result<T>,
    ) -> Result<T> {
        let (number, client) = self.connection().await?;
        let result = tokio::select! {
            result = timeout(CALL, call(client)) => result,
            error = self.broken(number) => return Err(error),
        };
        let slow = |_| {
            let text = format!("etcd at {shown} did not answer within {CALL:?}");
            Err(Error::new(ErrorKind::Timeout, text))
        };
        let result = result.unwrap_or_else(slow);
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
        {
            self.order(Order::Doubt(number, error.clone()));
        }
        result
    }

    /// The connection that is there now, or the next one; the reason why there is none, once it is known.
    async fn connection(&self) -> Result<(u64, S::Client)> {
        let mut line = self.line.clone();
        self.order(Order::Want);
        let there = |line: &LinkState<_>| matches!(line, LinkState::Up(..));
        // A moment, for it to be made elsewhere.
        let _ = timeout(MOMENT, line.wait_for(there)).await;
        let known = |line: &LinkState<_>| !matches!(line, LinkState::Down(None));
        match line.wait_for(known).await.map(|line| line.clone()) {
            Ok(LinkState::Up(number, client)) => Ok((number, client)),
            Ok(LinkState::Down(Some(error))) => Err(error),
            Ok(LinkState::Down(None)) | Err(_) => Err(over()),
        }
    }

    /// Waits until that connection is no more.
    async fn broken(&self, number: u64) -> Error {
        let mut line = self.line.clone();
        let other = |line: &LinkState<_>| !matches!(line, LinkState::Up(now, _) if *now == number);
        match line.wait_for(other).await.map(|line| line.clone()) {
            Ok(LinkState::Down(Some(error))) => error,
            _ => over(),
        }
    }

    /// RangeStream a part, from what is known of it or from a list. Goes on after errors.
    pub(super) fn follow(
        &self,
        scope: Scope,
        known: Option<KeyRevisions>,
    ) -> BoxStream<'static, Result<Changes>> {
        let id = self.parts.fetch_add(1, Ordering::Relaxed);
        let (sink, told) = coalescing_channel();
        self.order(Order::Follow(id, scope, known, sink));
        let orders = self.orders.clone();
        RangeStream { id, orders, told }.boxed()
    }

    /// How the connection fares, from now on: each change.
    pub(super) fn states(&self) -> BoxStream<'static, ConnectionState> {
        let state = |line: &LinkState<S::Client>| match line {
            LinkState::Down(Some(error)) => ConnectionState::Suspended(error.clone()),
            LinkState::Down(None) | LinkState::Up(..) => ConnectionState::Connected,
        };
        stream::unfold(self.line.clone(), move |mut line| async move {
            line.changed().await.ok()?;
            let now = state(&line.borrow_and_update());
            Some((now, line))
        })
        .boxed()
    }

    /// What it has been through.
    pub(super) fn metrics(&self) -> Metrics {
        let DriverStats { counts, heard } = self.log();
        Metrics {
            reconnects: counts.connects.saturating_sub(1),
            relists: counts.relists,
            resyncs: counts.epochs,
            duplicates: counts.duplicates,
            mismatches: counts.mismatches,
            // How long ago the store was last heard on the watches.
            lag: heard.map_or(Duration::ZERO, |heard| heard.elapsed()),
            ..Metrics::default()
        }
    }

    fn log(&self) -> DriverStats {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        // The task lives as long as any handle does, unless its runtime is gone.
        let _ = self.orders.send(order);
    }
}

/// Somebody who follows a part; drops it when dropped.
struct RangeStream {
    id: RangeId,
    orders: mpsc::UnboundedSender<Order>,
    told: CoalescingReceiver,
}

impl Stream for RangeStream {
    type Item = Result<Changes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.told.poll_next_unpin(context)
    }
}

impl Drop for RangeStream {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Forget(self.id));
    }
}

struct DriverTask<S: Session> {
    follower: Follower,
    start: Instant,
    session: S,
    sinks: HashMap<RangeId, (Scope, CoalescingSender)>,
    line: watch::Sender<LinkState<S::Client>>,
    log: Arc<Mutex<DriverStats>>,
}

impl<S: Session> DriverTask<S> {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut news: mpsc::UnboundedReceiver<(u64, SessionEvent<S>)>,
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
                inputs = self.session.heard() => self.steps(inputs),
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
                self.session.forget(id);
            }
            Order::Want => self.step(Input::Want),
            Order::Doubt(number, error) if number == self.session.number() => {
                self.step(Input::Broken(error));
            }
            Order::Doubt(..) => {}
        }
    }

    fn hear(&mut self, news: SessionEvent<S>) {
        match news {
            SessionEvent::Opened(client, verdict, head) => {
                self.session.opened((*client).clone());
                self.line
                    .send_replace(LinkState::Up(self.session.number(), *client));
                self.step(Input::Opened { verdict, head });
            }
            SessionEvent::Response(response) => {
                let inputs = self.session.read(response);
                self.steps(inputs);
            }
            SessionEvent::Answer(input) => self.step(input),
        }
    }

    fn steps(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            self.step(input);
        }
    }

    /// One step of the machine, and what it says is to be done.
    fn step(&mut self, input: Input) {
        let outputs = self.follower.step(input, self.start.elapsed());
        for output in outputs {
            self.obey(output);
        }
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = DriverStats {
            counts: self.follower.counts(),
            heard: self.follower.heard().map(|heard| self.start + heard),
        };
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Open { endpoint, mark } => self.session.open(endpoint, mark),
            Output::Close(error) => {
                self.session.close();
                self.line.send_replace(LinkState::Down(Some(error)));
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
                    self.session.watch(id, ticket, scope, from);
                }
            }
            Output::Unwatch(ticket) => self.session.unwatch(ticket),
            Output::AskSign => self.session.ask_sign(),
            Output::Tell(id, changes) => self.tell(id, Ok(changes)),
            Output::Lost(id, error) => self.tell(id, Err(error)),
        }
    }

    fn tell(&self, id: RangeId, item: Result<Changes>) {
        if let Some((_, sink)) = self.sinks.get(&id) {
            // Whoever has stopped listening says `Forget` next.
            sink.tell(item);
        }
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection was given up")
}
