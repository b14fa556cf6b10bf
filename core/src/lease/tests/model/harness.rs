//! A model of store, network and time that drives a real [`LeaseMachine`] like its keeper.

use std::time::Duration;

use super::checks::{Check, Observed, Standing};
use super::store_model::{CallStage, Store, TTL};
use crate::error::{Error, ErrorKind, Result};
use crate::lease::machine::{Input, LeaseMachine, Merge, Output, Request, StoreCall, Time};
use crate::model::Grant;

/// The timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    Up,
    /// Calls fail at once.
    Down,
    /// Calls get no answer.
    Silent,
    /// The store refuses calls for lack of permission.
    Refusing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Harness {
    pub(super) machine: LeaseMachine<u32>,
    pub(super) store: Store,
    pub(super) observed: Observed,
    pub(super) manual: bool,
    pub(super) now: Time,
    pub(super) network: Network,
    pub(super) delay_answers: bool,
    pub(super) delay_loss: bool,
    pub(super) call: Option<PendingCall>,
    /// Timed-out calls that the store may still execute before its next call.
    pub(super) abandoned_calls: Vec<PendingCall>,
    /// Leases of abandoned calls, whose keys are deleted once the store is reachable.
    orphans: Vec<u64>,
    grant_watch: Option<GrantWatch>,
    /// The lease and time of the last shared renewal.
    shared_renewal: Option<(u64, Time)>,
    /// True if shared renewals repeat by themselves.
    pub(super) shared_renewals: bool,
    shared_renewal_tried_at: Time,
    /// The requests without an answer, in order, with the values of updates.
    pub(super) values: Vec<(u64, Option<u32>)>,
    pub(super) value: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingCall {
    call: StoreCall<u32>,
    since: Time,
    stage: CallStage,
    /// The answer of the store, once there is one.
    answer: Option<std::result::Result<Option<Grant>, ErrorKind>>,
}

/// The watch for the loss of a grant, with the first loss observed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GrantWatch {
    grant: Grant,
    lost: Option<ErrorKind>,
}

/// The part of a value that merges change; the rest belongs to the owner.
pub(super) const MERGED: u32 = 0xffff_0000;

impl Merge for u32 {
    fn merge(&mut self, update: u32) -> Option<u32> {
        let merged = *self & !MERGED | update & MERGED;
        let before = std::mem::replace(self, merged);
        (before != merged).then_some(before)
    }

    fn rebase(&mut self, previous: &u32, in_force: &u32) {
        if *self & MERGED == previous & MERGED {
            *self = *self & !MERGED | in_force & MERGED;
        }
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "injected error")
}

impl Harness {
    pub(super) fn started(manual: bool, shared: bool, seed: u64) -> Harness {
        let (store, grant) = Store::new(0, shared);
        Harness {
            machine: LeaseMachine::new(0, manual, grant, seed, Duration::ZERO),
            store,
            observed: Observed::new(0, grant),
            manual,
            now: Duration::from_millis(3),
            network: Network::Up,
            delay_answers: false,
            delay_loss: false,
            call: None,
            abandoned_calls: Vec::new(),
            orphans: Vec::new(),
            grant_watch: Some(GrantWatch { grant, lost: None }),
            shared_renewal: None,
            shared_renewals: false,
            shared_renewal_tried_at: Duration::ZERO,
            values: Vec::new(),
            value: 0,
        }
    }

    pub(super) fn request(&mut self, request: Request<u32>) -> Check {
        let id = self.observed.next_request();
        let value = match request {
            Request::Update(value) => Some(value),
            Request::Heartbeat | Request::Unregister | Request::Merge(_) => None,
        };
        self.values.push((id, value));
        self.step(Input::Request(id, request))
    }

    /// Steps the machine and applies its outputs.
    pub(super) fn step(&mut self, input: Input<u32>) -> Check {
        if let Some(confirmed) = self
            .machine
            .current_grant()
            .and_then(|grant| self.confirmed(grant))
        {
            self.machine.record_shared_renewal(confirmed);
        }
        for output in self.machine.step(input, self.now) {
            self.apply_output(output)?;
        }
        Ok(())
    }

    fn apply_output(&mut self, output: Output<u32>) -> Check {
        if self.observed.released() && !matches!(output, Output::Reply(..)) {
            return Err(format!("{output:?} after the release"));
        }
        match output {
            Output::Call(call) => {
                self.observed.call(&call, self.manual)?;
                let (since, stage, answer) = (self.now, CallStage::Sent, None);
                let pending = PendingCall {
                    call,
                    since,
                    stage,
                    answer,
                };
                let before = self.call.replace(pending);
                before.map_or(Ok(()), |before| Err(format!("a call beside {before:?}")))
            }
            Output::WatchGrant(grant) => {
                self.grant_watch = grant.map(|grant| GrantWatch { grant, lost: None });
                self.observe_grant();
                Ok(())
            }
            Output::Reply(id, answer) => {
                self.observed.reply(id)?;
                let at = self.values.iter().position(|(request, _)| *request == id);
                let (_, value) = self.values.remove(at.ok_or("an answer without a request")?);
                match (answer, value) {
                    (Ok(()), Some(value)) => self.observed.updated(value),
                    _ => Ok(()),
                }
            }
            Output::Live => self.observed.standing_reported(Standing::Live),
            Output::Lapsed(_) => self.observed.standing_reported(Standing::Lapsed),
            Output::Replaced(_) => self.observed.standing_reported(Standing::Replaced),
            Output::ValueWritten(value) => self.observed.value_written(value),
            Output::Released => self.observed.standing_reported(Standing::Released),
            Output::Restored(_) => self.observed.restored(self.now),
            // The value in force is still the one before the merge.
            Output::MergeRefused(_) => Ok(()),
        }
    }

    /// Records the first loss of the watched grant.
    pub(super) fn observe_grant(&mut self) {
        let owner = self.store.owner();
        if let Some(GrantWatch {
            grant,
            lost: lost @ None,
        }) = &mut self.grant_watch
            && owner != Some(grant.id)
        {
            let other = owner.is_some_and(|owner| owner != 0);
            *lost = Some(if other {
                ErrorKind::Replaced
            } else {
                ErrorKind::LeaseLost
            });
        }
    }

    /// Delivers the recorded loss of the grant; false if there is none.
    pub(super) fn deliver_loss(&mut self) -> std::result::Result<bool, String> {
        let reachable = self.network == Network::Up;
        let Some(GrantWatch {
            grant,
            lost: Some(kind),
        }) = self.grant_watch.clone().filter(|_| reachable)
        else {
            return Ok(false);
        };
        self.grant_watch = None;
        self.observed.error_delivered(&error(kind));
        self.step(Input::LeaseLost(grant, error(kind)))?;
        Ok(true)
    }

    /// The store executes one more step of the call; false if there is none.
    pub(super) fn serve(&mut self) -> bool {
        let Some(pending) = self
            .call
            .as_mut()
            .filter(|pending| pending.answer.is_none())
        else {
            return false;
        };
        match self.network {
            Network::Up => {
                // Abandoned calls are never executed after this one.
                self.abandoned_calls.clear();
                let answer = self
                    .store
                    .serve(&pending.call, &mut pending.stage, self.now);
                pending.answer = answer.map(|answer| answer.map_err(|error| error.kind()));
            }
            Network::Down => pending.answer = Some(Err(ErrorKind::Unavailable)),
            Network::Refusing => pending.answer = Some(Err(ErrorKind::PermissionDenied)),
            Network::Silent => return false,
        }
        self.observe_grant();
        true
    }

    /// Delivers the answer of the store; false if there is none.
    pub(super) fn answer(&mut self) -> std::result::Result<bool, String> {
        let answered = self
            .call
            .as_ref()
            .is_some_and(|pending| pending.answer.is_some());
        if !answered || self.network == Network::Silent {
            return Ok(false);
        }
        let Some(pending) = self.call.take() else {
            return Ok(false);
        };
        let answer = pending.answer.unwrap_or(Ok(None)).map_err(error);
        self.done(&pending.call, pending.since, answer)?;
        Ok(true)
    }

    fn done(&mut self, call: &StoreCall<u32>, since: Time, answer: Result<Option<Grant>>) -> Check {
        self.observed.answered(call, since, &answer);
        let failed = answer.is_err();
        self.step(Input::CallCompleted(answer))?;
        // What the machine does not repeat, the store does, because others keep a shared lease alive.
        if let (StoreCall::Unregister(grant), true, true) = (call, failed, self.store.shared)
            && !self.machine.is_releasing()
            && !self.observed.released()
        {
            self.orphans.push(grant.id);
        }
        Ok(())
    }

    /// Loses the answer to the call. With `late`, the store may still execute the rest of the call later.
    pub(super) fn lose(&mut self, kind: ErrorKind, late: bool) -> Check {
        let Some(pending) = self.call.take() else {
            return Ok(());
        };
        if let (StoreCall::Restore(_), CallStage::KeyFree(lease, _)) =
            (&pending.call, &pending.stage)
        {
            self.orphans.push(*lease);
        }
        let (call, since) = (pending.call.clone(), pending.since);
        if late && pending.answer.is_none() {
            self.abandoned_calls.push(pending);
        }
        self.done(&call, since, Err(error(kind)))
    }

    /// The store executes an abandoned call.
    pub(super) fn run_abandoned_call(&mut self) {
        if let Some(mut pending) = self.abandoned_calls.pop() {
            while self
                .store
                .serve(&pending.call, &mut pending.stage, self.now)
                .is_none()
            {}
            if let CallStage::KeyFree(lease, _) = pending.stage {
                self.orphans.push(lease);
            }
            self.observe_grant();
        }
    }

    /// Runs everything that happens without a wait.
    pub(super) fn run_due(&mut self) -> Check {
        for _ in 0..1000 {
            self.store.advance(self.now);
            self.observe_grant();
            let late = self
                .call
                .as_ref()
                .is_some_and(|pending| self.now >= pending.since + CALL_TIMEOUT);
            let clean = self.network == Network::Up && !self.orphans.is_empty();
            if clean && self.call.is_none() {
                // Except the lease of the current grant.
                let mut orphans = std::mem::take(&mut self.orphans);
                orphans.retain(|lease| {
                    self.grant_watch
                        .as_ref()
                        .is_none_or(|g| g.grant.id != *lease)
                });
                orphans
                    .iter()
                    .for_each(|lease| self.store.delete_held(*lease));
                self.observe_grant();
            }
            if late {
                self.lose(ErrorKind::Timeout, true)?;
                continue;
            }
            let more = !self.delay_loss && self.deliver_loss()?
                || !self.delay_answers && (self.serve() || self.answer()?);
            if !more {
                return Ok(());
            }
        }
        Err("the machine does not become idle".into())
    }

    /// Advances time and runs everything that is due.
    pub(super) fn wait(&mut self, time: Duration) -> Check {
        let until = self.now + time;
        let mut steps_without_progress = 0;
        loop {
            self.run_due()?;
            let late = self
                .call
                .as_ref()
                .map(|pending| pending.since + CALL_TIMEOUT);
            let keep = self
                .shared_renewals
                .then_some(self.shared_renewal_tried_at + TTL / 3);
            let ends = [late, self.store.next_end(), self.wake(), keep];
            let next = ends.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                self.run_due()?;
                return self.observed.check_liveness(self.now);
            };
            steps_without_progress = if next > self.now {
                0
            } else {
                steps_without_progress + 1
            };
            if steps_without_progress > 100 {
                return Err("the machine never sleeps".into());
            }
            self.now = self.now.max(next);
            if keep.is_some_and(|keep| keep <= self.now) {
                self.run_shared_renewal();
            }
            if self.wake().is_some_and(|wake| wake <= self.now) {
                self.step(Input::Tick)?;
            }
        }
    }

    /// Renews a shared lease as the client does by itself, and records the time.
    pub(super) fn run_shared_renewal(&mut self) {
        self.shared_renewal_tried_at = self.now;
        // Manual registrations are renewed by their program only.
        let Some(grant) = self.machine.current_grant().filter(|_| !self.manual) else {
            return;
        };
        if self.store.shared && self.network == Network::Up && self.store.renew(grant.id, self.now)
        {
            self.shared_renewal = Some((grant.id, self.now));
            self.observed.shared_renewal(grant, self.now);
        }
    }

    /// Returns the time of the last shared renewal of a grant.
    fn confirmed(&self, grant: Grant) -> Option<Time> {
        self.shared_renewal
            .filter(|(id, _)| *id == grant.id)
            .map(|(_, at)| at)
    }

    /// Returns the time at which the keeper wakes: not while shared renewals suffice.
    pub(super) fn wake(&self) -> Option<Time> {
        let kept = self
            .machine
            .idle_grant()
            .and_then(|grant| self.confirmed(grant));
        let overdue = kept.map(|confirmed| confirmed + Grant::overdue_after(TTL));
        let wake = self.machine.next_wake()?;
        Some(overdue.map_or(wake, |overdue| overdue.max(wake)))
    }

    /// Pauses the store. Leases that are due meanwhile expire before the store answers calls again.
    pub(super) fn pause(&mut self, time: Duration) -> Check {
        let network = std::mem::replace(&mut self.network, Network::Silent);
        self.store.frozen = true;
        self.wait(time)?;
        self.store.advance(self.now);
        (self.network, self.store.frozen) = (network, false);
        self.observe_grant();
        Ok(())
    }

    /// Suspends this process.
    pub(super) fn sleep(&mut self, time: Duration) -> Check {
        self.now += time;
        self.store.advance(self.now);
        self.observe_grant();
        self.step(Input::Tick)?;
        self.wait(Duration::ZERO)
    }
}

/// The time within which a lost registration is restored: one retry interval and one restore interval.
pub(super) const RESTORE_BOUND: Duration = Duration::from_millis(2100);
/// The time within which an uncertain value is rewritten: until the next renewal.
pub(super) const VALUE_BOUND: Duration = Duration::from_secs(TTL.as_secs() / 3 + 1);
