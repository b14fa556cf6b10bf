//! One task for each lease: all that ever speaks of it to the store. It does what the machine says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Standing;
use crate::lease::machine::{Adopt, Call, Input, Machine, Order, OrderId, Output};
use crate::model::{
    Attributes, Grant, Heartbeat, OnConflict, Registration, SharedAttributes, check_attributes,
};

/// An order of the owner, and where its answer goes.
pub(super) type Asked = (Order<Wanted>, oneshot::Sender<Result<()>>);

/// What the owner wants others to see.
#[derive(Clone)]
pub(super) struct Wanted {
    attributes: Attributes,
    word: Word,
}

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The owner's, who says it to all that share something with it.
    Owner,
    /// That of its service, and nothing that the owner says to others.
    Service,
    /// What was said before, again, for its service has lost it.
    Again,
}

impl Wanted {
    pub(super) fn said(attributes: Attributes) -> Wanted {
        let word = Word::Owner;
        Wanted { attributes, word }
    }

    /// What the service says, to be adopted.
    fn heard(shared: SharedAttributes) -> Wanted {
        let (attributes, word) = match shared {
            SharedAttributes::Present(attributes) => (attributes, Word::Service),
            // Nothing to adopt: who knows says it again.
            SharedAttributes::Absent => (Attributes::new(), Word::Again),
        };
        Wanted { attributes, word }
    }
}

impl Adopt for Wanted {
    fn adopt(&mut self, said: Wanted) -> Option<Wanted> {
        let news = |(name, value): (&String, &String)| self.attributes.get(name) != Some(value);
        if said.word == Word::Service && !said.attributes.iter().any(news) {
            return None;
        }
        let before = Wanted {
            attributes: self.attributes.clone(),
            // If others cannot be told this, they cannot be told that either.
            word: Word::Service,
        };
        self.attributes.extend(said.attributes);
        self.word = said.word;
        Some(before)
    }
}

/// Logs a message about a registration, with the fields that name it.
macro_rules! log_lease {
    ($level:ident, $registration:expr, $($rest:tt)+) => {
        tracing::$level!(
            service = %$registration.service(),
            instance = %$registration.instance_id(),
            endpoint = %$registration.address(),
            $($rest)+
        )
    };
}

type Answer = Result<Option<Grant>>;

/// How many times in a row something must be put back before that is worth a warning each time.
const FIGHT: u32 = 3;

/// Registers, and starts the task that keeps it so.
pub(super) async fn start(
    backend: Arc<dyn Backend>,
    registration: Registration,
    restored: Arc<AtomicU64>,
    inbox: mpsc::Receiver<Asked>,
    told: Told,
) -> Result<()> {
    let start = Instant::now();
    let grant = bounded(backend.register(&registration, OnConflict::Replace).await?);
    let manual = registration.heartbeat == Heartbeat::Manual;
    let wanted = Wanted::said(registration.attributes.clone());
    let machine = Machine::new(wanted, manual, grant, fastrand::u64(..), Duration::ZERO);
    let mut keeper = Keeper {
        shared: backend.shared_attributes(&registration),
        patience: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
        backend,
        registration: registration.into(),
        machine,
        start,
        told,
        restored,
        replies: HashMap::new(),
        call: None,
        unregisters: false,
        unregister_error: None,
        restored_now: false,
        guard: pending().boxed(),
    };
    log_lease!(info, keeper.registration, "registered");
    keeper.watch_over(Some(grant));
    tokio::spawn(keeper.run(inbox));
    Ok(())
}

/// What the owner is told.
pub(super) struct Told {
    pub(super) standing: watch::Sender<Standing>,
    pub(super) attributes: watch::Sender<Attributes>,
}

struct Keeper {
    backend: Arc<dyn Backend>,
    registration: Arc<Registration>,
    machine: Machine<Wanted>,
    start: Instant,
    told: Told,
    /// What the service says to all of its registrations.
    shared: BoxStream<'static, SharedAttributes>,
    /// Before what it says is tried again, once that was refused.
    patience: Backoff,
    restored: Arc<AtomicU64>,
    replies: HashMap<OrderId, oneshot::Sender<Result<()>>>,
    call: Option<BoxFuture<'static, Answer>>,
    /// Whether the last call removes the registration.
    unregisters: bool,
    /// Why the call that just ended could not remove the registration.
    unregister_error: Option<Error>,
    /// Whether the step under way has logged that the lease is restored.
    restored_now: bool,
    guard: BoxFuture<'static, (Grant, Error)>,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<Asked>) {
        let mut orders = 0;
        let mut owned = true;
        while !matches!(*self.told.standing.borrow(), Standing::Released) {
            let wake = self.machine.wake().map(|wake| self.start + wake);
            let rests = self.machine.rests();
            let overdue = rests.map(|grant| self.backend.renewal_overdue(grant));
            let asleep = async {
                // Ten thousand that are renewed together do not wake to find out that they were.
                if let Some(overdue) = overdue {
                    overdue.await;
                }
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => pending().await,
                }
            };
            let called = async {
                match &mut self.call {
                    Some(call) => call.await,
                    None => pending().await,
                }
            };
            let input = tokio::select! {
                biased;
                asked = inbox.recv(), if owned => match asked {
                    Some((order, reply)) => {
                        orders += 1;
                        self.replies.insert(orders, reply);
                        Input::Order(orders, order)
                    }
                    None => {
                        owned = false;
                        Input::Dropped
                    }
                },
                answer = called => {
                    self.call = None;
                    self.unregister_error = match &answer {
                        Err(error) if self.unregisters => Some(error.clone()),
                        _ => None,
                    };
                    Input::Done(answer)
                }
                (grant, error) = &mut self.guard => {
                    self.guard = pending().boxed();
                    Input::Guard(grant, error)
                }
                Some(said) = self.shared.next() => Input::Heard(Wanted::heard(said)),
                () = asleep => Input::Tick,
            };
            if let Some(confirmed) = self.kept() {
                self.machine.kept(confirmed);
            }
            let outputs = self.machine.step(input, self.start.elapsed());
            self.restored_now = false;
            for output in outputs {
                self.obey(output);
            }
        }
    }

    fn obey(&mut self, output: Output<Wanted>) {
        match output {
            Output::Call(call) => self.call = Some(self.call(call)),
            Output::Guard(grant) => self.watch_over(grant),
            Output::Reply(id, answer) => {
                if let Some(reply) = self.replies.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = reply.send(answer);
                }
            }
            Output::Live => self.tell(Standing::Live),
            Output::Lapsed(error) => self.tell(Standing::Lapsed(error)),
            Output::Replaced(error) => self.tell(Standing::Replaced(error)),
            Output::Value(value) => self.tell_value(value),
            Output::Released => self.tell(Standing::Released),
            Output::Refused(error) => self.bear(&error),
            Output::Restored(times) => self.note_restored(times),
        }
    }

    /// The call, to be awaited beside everything else.
    fn call(&mut self, call: Call<Wanted>) -> BoxFuture<'static, Answer> {
        self.unregisters = matches!(call, Call::Unregister(_));
        let backend = self.backend.clone();
        let mut asked = self.registration.clone();
        let mut checked = Ok(());
        let value = match &call {
            Call::RestoreOnly(value) | Call::Update(value, _) | Call::Settle(value, _) => {
                Some(value)
            }
            Call::Renew(_) | Call::Unregister(_) => None,
        };
        if let Some(wanted) = value {
            let asked = Arc::make_mut(&mut asked);
            let attributes = wanted.attributes.clone();
            asked.first = Some(std::mem::replace(&mut asked.attributes, attributes));
            // What others said was looked at by nobody yet.
            checked = check_attributes(&asked.attributes, &asked.tags);
            if let Call::Update(wanted, _) | Call::Settle(wanted, _) = &call {
                asked.adopted = wanted.word == Word::Service;
            }
        }
        async move {
            checked?;
            match call {
                Call::RestoreOnly(_) => {
                    let grant = backend.register(&asked, OnConflict::RestoreOnly).await?;
                    Ok(Some(bounded(grant)))
                }
                Call::Renew(grant) => backend.heartbeat(&asked, grant).await.map(|()| None),
                Call::Update(_, grant) => {
                    let updated = backend.update(&asked, grant, OnConflict::Replace).await;
                    updated.map(|()| None)
                }
                Call::Settle(_, grant) => {
                    let settled = backend.update(&asked, grant, OnConflict::RestoreOnly).await;
                    settled.map(|()| None)
                }
                Call::Unregister(grant) => backend.unregister(&asked, grant).await.map(|()| None),
            }
        }
        .boxed()
    }

    /// When the grant was last confirmed, if the store renews it by itself.
    fn kept(&self) -> Option<Duration> {
        let ago = self.backend.last_confirmed(self.machine.held()?)?;
        self.start.elapsed().checked_sub(ago)
    }

    fn watch_over(&mut self, grant: Option<Grant>) {
        let Some(grant) = grant else {
            self.guard = pending().boxed();
            return;
        };
        let (backend, registration) = (self.backend.clone(), self.registration.clone());
        self.guard = async move { (grant, backend.lease_lost(&registration, grant).await) }.boxed();
    }

    fn tell_value(&mut self, value: Wanted) {
        let word = value.word;
        self.told.attributes.send_replace(value.attributes);
        self.patience.reset();
        match word {
            // Only now: what was said before may be the owner's word of before. And with other
            // attributes it may share something else.
            Word::Owner => self.shared = self.backend.shared_attributes(&self.as_told()),
            Word::Service => {
                log_lease!(
                    info,
                    self.registration,
                    "adopted the attributes of the service"
                );
                // Who listens is told that there is something to read.
                self.told.standing.send_modify(|_| {});
            }
            Word::Again => {}
        }
    }

    /// The registration with what the owner is told that others see.
    fn as_told(&self) -> Registration {
        let mut now = Registration::clone(&self.registration);
        now.attributes.clone_from(&self.told.attributes.borrow());
        now
    }

    /// What the service says, or says no more, cannot be written. What no layout can say needs other
    /// words first, anything else is tried again.
    fn bear(&mut self, error: &Error) {
        log_lease!(
            warn,
            self.registration,
            error = %error.report(),
            "cannot adopt the attributes of the service"
        );
        if error.kind() != ErrorKind::InvalidArgument {
            let (backend, now) = (self.backend.clone(), self.as_told());
            let wait = sleep(self.patience.next_wait());
            self.shared = wait
                .map(move |()| backend.shared_attributes(&now))
                .flatten_stream()
                .boxed();
        }
    }

    fn note_restored(&mut self, times: u32) {
        self.restored_now = true;
        self.restored.fetch_add(1, Ordering::Relaxed);
        if times < FIGHT {
            log_lease!(info, self.registration, "lease restored");
        } else {
            log_lease!(
                warn,
                self.registration,
                times,
                "lease restored several times in a row, another program removes the entry"
            );
        }
    }

    fn tell(&self, standing: Standing) {
        let r = &self.registration;
        match &standing {
            Standing::Live if self.restored_now => {}
            Standing::Live => log_lease!(info, r, "lease restored"),
            Standing::Lapsed(error) => {
                log_lease!(warn, r, error = %error.report(), "lease lost");
            }
            Standing::Replaced(error) => {
                log_lease!(warn, r, error = %error.report(), "lease lost, another owner replaced it");
            }
            Standing::Released => match &self.unregister_error {
                None => log_lease!(info, r, "unregistered"),
                Some(error) => log_lease!(
                    warn,
                    r,
                    error = %error.report(),
                    "unregister failed, the entry expires with its TTL"
                ),
            },
        }
        self.told.standing.send_replace(standing);
    }
}

/// No backend is believed to promise more than we would ask of it.
fn bounded(grant: Grant) -> Grant {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
    Grant {
        ttl: grant.ttl.clamp(shortest, longest),
        ..grant
    }
}
