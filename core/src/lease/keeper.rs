//! The task of one lease: makes all of its calls to the backend, as its machine decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, pending};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::lease::Standing;
use crate::lease::external_updates::{ExternalUpdates, Origin, RegisteredValue};
use crate::lease::machine::{Input, LeaseMachine, Output, Request, RequestId, StoreCall};
use crate::model::{Attributes, Grant, Heartbeat, OnConflict, Registration, check_attributes};

/// A request of the owner, and the sender of its answer.
pub(super) type OwnerRequest = (Request<RegisteredValue>, oneshot::Sender<Result<()>>);

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

type CallAnswer = Result<Option<Grant>>;

/// From this number of consecutive restores on, each is logged as a warning.
const RESTORES_BEFORE_WARNING: u32 = 3;
/// The bounds of the TTL that a backend may grant.
const MIN_GRANTED_TTL: Duration = Duration::from_secs(1);
const MAX_GRANTED_TTL: Duration = Duration::from_secs(24 * 3600);

/// The channels through which the owner reads the state of its lease.
pub(super) struct OwnerChannels {
    pub(super) standing: watch::Sender<Standing>,
    pub(super) attributes: watch::Sender<Attributes>,
}

/// Registers, and starts the task that keeps the registration alive. Each restore adds one to `restored`. Aborting the
/// task gives the registration up, so that it expires.
pub(super) async fn start(
    backend: Arc<dyn Backend>,
    registration: Registration,
    restored: Arc<AtomicU64>,
    inbox: mpsc::Receiver<OwnerRequest>,
    owner: OwnerChannels,
) -> Result<AbortHandle> {
    let start = Instant::now();
    let grant = clamp_ttl(backend.register(&registration, OnConflict::Replace).await?);
    let manual = registration.heartbeat == Heartbeat::Manual;
    let value = RegisteredValue::from_owner(registration.attributes.clone());
    let machine = LeaseMachine::new(value, manual, grant, fastrand::u64(..), Duration::ZERO);
    let mut keeper = Keeper {
        external: ExternalUpdates::follow(backend.clone(), &registration),
        backend,
        registration: registration.into(),
        machine,
        start,
        owner,
        restored,
        replies: HashMap::new(),
        call: None,
        unregister_failure_logged: false,
        restore_logged: false,
        lease_lost: pending().boxed(),
    };
    log_lease!(info, keeper.registration, "registered");
    keeper.watch_grant(Some(grant));
    Ok(tokio::spawn(keeper.run(inbox)).abort_handle())
}

struct Keeper {
    backend: Arc<dyn Backend>,
    registration: Arc<Registration>,
    machine: LeaseMachine<RegisteredValue>,
    start: Instant,
    owner: OwnerChannels,
    external: ExternalUpdates,
    restored: Arc<AtomicU64>,
    replies: HashMap<RequestId, oneshot::Sender<Result<()>>>,
    call: Option<BoxFuture<'static, CallAnswer>>,
    /// True if a failed unregistration was logged.
    unregister_failure_logged: bool,
    /// True if the current step has logged that the lease is restored.
    restore_logged: bool,
    lease_lost: BoxFuture<'static, (Grant, Error)>,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<OwnerRequest>) {
        let mut requests = 0;
        let mut owned = true;
        while !matches!(*self.owner.standing.borrow(), Standing::Released) {
            let wake = self.machine.next_wake().map(|wake| self.start + wake);
            let idle_grant = self.machine.idle_grant();
            let overdue = idle_grant.map(|grant| self.backend.renewal_overdue(grant));
            let timer = async {
                // While shared renewals succeed, the task sleeps. 10 000 leases that are renewed together do
                // not wake after each renewal.
                if let Some(overdue) = overdue {
                    overdue.await;
                }
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => pending().await,
                }
            };
            let call = async {
                match &mut self.call {
                    Some(call) => call.await,
                    None => pending().await,
                }
            };
            let input = tokio::select! {
                biased;
                request = inbox.recv(), if owned => match request {
                    Some((request, reply)) => {
                        requests += 1;
                        self.replies.insert(requests, reply);
                        Input::Request(requests, request)
                    }
                    None => {
                        owned = false;
                        Input::OwnerDropped
                    }
                },
                answer = call => {
                    self.call = None;
                    Input::CallCompleted(answer)
                }
                (grant, error) = &mut self.lease_lost => {
                    self.lease_lost = pending().boxed();
                    Input::LeaseLost(grant, error)
                }
                update = self.external.next() => Input::ExternalUpdate(update),
                () = timer => Input::Tick,
            };
            if let Some(confirmed) = self.last_shared_renewal() {
                self.machine.record_shared_renewal(confirmed);
            }
            let failed_call = match &input {
                Input::CallCompleted(Err(error)) => Some(error.clone()),
                _ => None,
            };
            let outputs = self.machine.step(input, self.start.elapsed());
            if let Some(error) = failed_call.filter(|_| self.machine.is_releasing()) {
                self.log_unregister_failure(&error);
            }
            self.restore_logged = false;
            for output in outputs {
                self.apply(output);
            }
        }
    }

    fn apply(&mut self, output: Output<RegisteredValue>) {
        match output {
            Output::Call(call) => self.call = Some(self.start_call(call)),
            Output::WatchGrant(grant) => self.watch_grant(grant),
            Output::Reply(id, answer) => {
                if let Some(reply) = self.replies.remove(&id) {
                    // The requester may have stopped waiting.
                    let _ = reply.send(answer);
                }
            }
            Output::Live => self.publish_standing(Standing::Live),
            Output::Lapsed(error) => self.publish_standing(Standing::Lapsed(error)),
            Output::Replaced(error) => self.publish_standing(Standing::Replaced(error)),
            Output::Released => self.publish_standing(Standing::Released),
            Output::ValueWritten(value) => self.publish_value(value),
            Output::MergeRefused(error) => self.merge_refused(&error),
            Output::Restored(consecutive) => self.record_restore(consecutive),
        }
    }

    /// Returns the future of a call to the backend.
    fn start_call(&mut self, call: StoreCall<RegisteredValue>) -> BoxFuture<'static, CallAnswer> {
        let backend = self.backend.clone();
        let mut registration = self.registration.clone();
        let mut checked = Ok(());
        let value = match &call {
            StoreCall::Restore(value)
            | StoreCall::Update { value, .. }
            | StoreCall::Rewrite(value, _) => Some(value),
            StoreCall::Renew(_) | StoreCall::Unregister(_) => None,
        };
        if let Some(value) = value {
            let registration = Arc::make_mut(&mut registration);
            let attributes = value.attributes.clone();
            let first = std::mem::replace(&mut registration.attributes, attributes);
            registration.first = Some(first);
            // External updates are not validated before they are merged.
            checked = check_attributes(&registration.attributes, &registration.tags);
            if let StoreCall::Update { value, .. } | StoreCall::Rewrite(value, _) = &call {
                registration.adopted = value.origin == Origin::Shared;
            }
            if let StoreCall::Update { before, .. } = &call {
                registration.before = before.as_ref().map(|before| before.attributes.clone());
            }
        }
        async move {
            checked?;
            match call {
                StoreCall::Restore(_) => {
                    let restore = backend.register(&registration, OnConflict::RestoreOnly);
                    Ok(Some(clamp_ttl(restore.await?)))
                }
                StoreCall::Renew(grant) => {
                    let renewed = backend.heartbeat(&registration, grant).await;
                    renewed.map(|()| None)
                }
                StoreCall::Update { grant, .. } => {
                    let update = backend.update(&registration, grant, OnConflict::Replace);
                    update.await.map(|()| None)
                }
                StoreCall::Rewrite(_, grant) => {
                    let update = backend.update(&registration, grant, OnConflict::RestoreOnly);
                    update.await.map(|()| None)
                }
                StoreCall::Unregister(grant) => {
                    let unregistered = backend.unregister(&registration, grant).await;
                    unregistered.map(|()| None)
                }
            }
        }
        .boxed()
    }

    /// Returns the time of the last confirmation of the current grant, if the backend renews it by itself.
    fn last_shared_renewal(&self) -> Option<Duration> {
        let grant = self.machine.current_grant()?;
        let ago = self.backend.last_confirmed(grant)?;
        self.start.elapsed().checked_sub(ago)
    }

    fn watch_grant(&mut self, grant: Option<Grant>) {
        let Some(grant) = grant else {
            self.lease_lost = pending().boxed();
            return;
        };
        let (backend, registration) = (self.backend.clone(), self.registration.clone());
        self.lease_lost =
            async move { (grant, backend.lease_lost(&registration, grant).await) }.boxed();
    }

    fn publish_value(&mut self, value: RegisteredValue) {
        self.owner.attributes.send_replace(value.attributes);
        let registration = self.published_registration();
        self.external.value_written(value.origin, &registration);
        if value.origin == Origin::Shared {
            log_lease!(info, registration, "adopted the attributes of the service");
            // Wakes subscribers of the standing, so that they read the new attributes.
            self.owner.standing.send_modify(|_| {});
        }
    }

    /// Returns the registration with the attributes that the owner reads.
    fn published_registration(&self) -> Registration {
        let mut registration = Registration::clone(&self.registration);
        let attributes = self.owner.attributes.borrow();
        registration.attributes.clone_from(&attributes);
        registration
    }

    fn merge_refused(&mut self, error: &Error) {
        let registration = self.published_registration();
        log_lease!(
            warn,
            registration,
            error = %error.report(),
            "cannot adopt the attributes of the service"
        );
        self.external.merge_refused(error, &registration);
    }

    fn record_restore(&mut self, consecutive: u32) {
        self.restore_logged = true;
        self.restored.fetch_add(1, Ordering::Relaxed);
        if consecutive < RESTORES_BEFORE_WARNING {
            log_lease!(info, self.registration, "lease restored");
        } else {
            log_lease!(
                warn,
                self.registration,
                times = consecutive,
                "lease restored several times in a row, another program removes the entry"
            );
        }
    }

    fn log_unregister_failure(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.unregister_failure_logged, true) {
            log_lease!(
                warn,
                self.registration,
                error = %error.report(),
                "unregister failed, it is repeated until the store confirms it"
            );
        }
    }

    fn publish_standing(&self, standing: Standing) {
        let registration = &self.registration;
        match &standing {
            Standing::Live if self.restore_logged => {}
            Standing::Live => log_lease!(info, registration, "lease restored"),
            Standing::Lapsed(error) => {
                log_lease!(warn, registration, error = %error.report(), "lease lost");
            }
            Standing::Replaced(error) => {
                log_lease!(
                    warn,
                    registration,
                    error = %error.report(),
                    "lease lost, another owner replaced it"
                );
            }
            Standing::Released => log_lease!(info, registration, "unregistered"),
        }
        self.owner.standing.send_replace(standing);
    }
}

/// The task was aborted, because the client was closed while the store did not respond.
impl Drop for Keeper {
    fn drop(&mut self) {
        let ended = |standing: &mut Standing| {
            let is_released = matches!(standing, Standing::Released);
            *standing = Standing::Released;
            !is_released
        };
        self.owner.standing.send_if_modified(ended);
    }
}

/// Bounds the TTL that a backend granted.
fn clamp_ttl(grant: Grant) -> Grant {
    Grant {
        ttl: grant.ttl.clamp(MIN_GRANTED_TTL, MAX_GRANTED_TTL),
        ..grant
    }
}
