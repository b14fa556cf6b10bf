//! Exhaustive search over all orders of a few events.

use std::time::Duration;

use stateright::{Model, Property};

use super::harness::Harness;
use super::operations::Operation;
use crate::prove;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    harness: Harness,
    orders: u8,
    faults: u8,
    waits: u8,
    broken: Option<String>,
}

struct Search {
    manual: bool,
    shared: bool,
    bounds: (u8, u8, u8),
}

impl Model for Search {
    type State = Point;
    type Action = Operation;

    fn init_states(&self) -> Vec<Point> {
        let mut harness = Harness::started(self.manual, self.shared, 1);
        (harness.delay_answers, harness.delay_loss) = (true, true);
        let (orders, faults, waits) = self.bounds;
        let broken = None;
        vec![Point {
            harness,
            orders,
            faults,
            waits,
            broken,
        }]
    }

    fn actions(&self, at: &Point, actions: &mut Vec<Operation>) {
        if at.broken.is_some() {
            return;
        }
        if at.orders > 0 {
            actions.extend([
                Operation::Heartbeat,
                Operation::Update,
                Operation::Unregister,
            ]);
        }
        if at.faults > 0 {
            actions.extend([
                Operation::Delete,
                Operation::Overwrite,
                Operation::Replace,
                Operation::OtherLeaves,
            ]);
            actions.extend([Operation::Revoke, Operation::Elect]);
            if self.shared {
                actions.push(Operation::SharedRenewal);
            }
            if at.harness.call.is_some() {
                actions.extend([Operation::Lose(false), Operation::Lose(true)]);
            }
        }
        if at.waits > 0 {
            // To the next time at which something is due.
            actions.push(Operation::Wait(0));
        }
        if at.harness.call.is_some() {
            actions.extend([Operation::Serve, Operation::Answer]);
        }
        if !at.harness.abandoned_calls.is_empty() {
            actions.push(Operation::RunAbandonedCall);
        }
        actions.push(Operation::DeliverLoss);
    }

    fn next_state(&self, last: &Point, operation: Operation) -> Option<Point> {
        let mut next = last.clone();
        let harness = &mut next.harness;
        let done = match &operation {
            Operation::Wait(_) => {
                next.waits -= 1;
                let ends = [harness.wake(), harness.store.next_end()];
                let wake = ends.into_iter().flatten().min().unwrap_or(harness.now);
                harness.wait(wake.saturating_sub(harness.now))
            }
            _ => harness.apply(&operation),
        };
        match &operation {
            Operation::Heartbeat | Operation::Update | Operation::Unregister => next.orders -= 1,
            Operation::Wait(_)
            | Operation::Serve
            | Operation::Answer
            | Operation::RunAbandonedCall
            | Operation::DeliverLoss => {}
            _ => next.faults -= 1,
        }
        next.harness.observe_grant();
        next.broken = done.and_then(|()| next.harness.wait(Duration::ZERO)).err();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Search>> {
        vec![
            Property::always("every output is correct", |_, at: &Point| {
                at.broken.is_none()
            }),
            Property::always(
                "the registration is correct within bounds after the last fault",
                |_, at: &Point| {
                    at.broken.is_some() || at.harness.clone().recover_and_check().is_ok()
                },
            ),
        ]
    }
}

#[test]
fn every_order_of_a_few_events_keeps_the_registration_correct() {
    let full = prove::requested_cases().is_some();
    for (manual, shared) in [(false, false), (false, true), (true, false)] {
        // Without automatic renewals there are more orders of events.
        let bounds = match (full, manual) {
            (_, true) => (1, 1, 0),
            (true, false) => (2, 2, 1),
            (false, false) => (2, 1, 1),
        };
        let model = Search {
            manual,
            shared,
            bounds,
        };
        let why = |end: &Point| {
            end.broken
                .clone()
                .or(end.harness.clone().recover_and_check().err())
        };
        prove::check_model(model, 100, why);
    }
}
