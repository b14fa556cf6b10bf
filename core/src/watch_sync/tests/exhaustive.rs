//! Model check of every order of a few operations, for one watch of two keys.

use stateright::{Model, Property};

use super::connection_model::CancelCause;
use super::harness::Harness;
use super::operations::Operation;
use super::store_model::Store;
use crate::prove;

/// Operations left to the search.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Budget {
    writes: u8,
    faults: u8,
    waits: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SearchState {
    harness: Harness,
    budget: Budget,
    broken: Option<String>,
}

struct SyncModel {
    loses_deletes: bool,
    budget: Budget,
}

impl Model for SyncModel {
    type State = SearchState;
    type Action = Operation;

    fn init_states(&self) -> Vec<SearchState> {
        let mut store = Store::new(self.loses_deletes);
        store.write(&[(0, true)]);
        let mut harness = Harness::new(store, 1);
        let broken = harness
            .add_range(0b11, false)
            .and_then(|()| harness.flow())
            .err();
        (harness.manual_stream, harness.manual_calls) = (true, true);
        let budget = self.budget.clone();
        vec![SearchState {
            harness,
            budget,
            broken,
        }]
    }

    fn actions(&self, at: &SearchState, actions: &mut Vec<Operation>) {
        if at.broken.is_some() {
            return;
        }
        if at.budget.writes > 0 {
            actions.push(Operation::Write(vec![(0, true)]));
            actions.push(Operation::Write(vec![(0, false)]));
            actions.push(Operation::Write(vec![(0, true), (1, true)]));
        }
        if at.budget.faults > 0 {
            actions.push(Operation::Reset);
            actions.push(Operation::Compact(0));
            actions.push(Operation::RollBackAndWrite(1, vec![(0, true)]));
            actions.push(Operation::RollBack(2));
            actions.push(Operation::Redeliver(0, 2));
            actions.push(Operation::Cancel(0, CancelCause::LoginRefused));
        }
        if at.budget.waits > 0 {
            // Advances to the next timer.
            actions.push(Operation::Wait(0));
        }
        if let Some(connection) = &at.harness.connection {
            actions.extend((!connection.watches.is_empty()).then_some(Operation::Serve(0, 1)));
            actions.extend((!connection.in_flight.is_empty()).then_some(Operation::Deliver(1)));
            let calls = connection.calls.len();
            actions.extend((calls > 0).then_some(Operation::Read(0)));
            actions.extend((0..calls.min(2)).map(Operation::Answer));
        }
    }

    fn next_state(&self, last: &SearchState, op: Operation) -> Option<SearchState> {
        let mut next = last.clone();
        let (harness, budget) = (&mut next.harness, &mut next.budget);
        let done = match &op {
            Operation::Write(_) => {
                budget.writes -= 1;
                harness.apply(&op)
            }
            Operation::Wait(_) => {
                budget.waits -= 1;
                let wake = harness.sync.next_timer().unwrap_or(harness.now);
                harness.wait(wake.saturating_sub(harness.now))
            }
            Operation::Serve(..)
            | Operation::Deliver(_)
            | Operation::Read(_)
            | Operation::Answer(_) => harness.apply(&op),
            _ => {
                budget.faults -= 1;
                harness.apply(&op)
            }
        };
        next.broken = done.and_then(|()| next.harness.flow()).err();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<SyncModel>> {
        vec![
            Property::always("what is emitted is right", |_, at: &SearchState| {
                at.broken.is_none()
            }),
            Property::always(
                "all is right soon after all is well",
                |_, at: &SearchState| {
                    at.broken.is_some() || at.harness.clone().recover_and_check().is_ok()
                },
            ),
        ]
    }
}

fn search(loses_deletes: bool) {
    let budget = match prove::requested_cases() {
        Some(_) => Budget {
            writes: 2,
            faults: 2,
            waits: 1,
        },
        None => Budget {
            writes: 2,
            faults: 1,
            waits: 1,
        },
    };
    let model = SyncModel {
        loses_deletes,
        budget,
    };
    let why = |end: &SearchState| {
        end.broken
            .clone()
            .or(end.harness.clone().recover_and_check().err())
    };
    prove::check_model(model, 1000, why);
}

#[test]
fn every_order_of_a_few_events_is_handled() {
    search(false);
}

#[test]
fn every_order_of_a_few_events_is_handled_on_a_store_that_loses_deletes() {
    search(true);
}
