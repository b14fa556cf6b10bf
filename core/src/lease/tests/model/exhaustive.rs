//! Every order in which a few things can happen to one registration.

use std::time::Duration;

use stateright::{Model, Property};

use super::harness::Harness;
use super::operations::Operation;
use crate::prove;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    world: Harness,
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
        let mut world = Harness::started(self.manual, self.shared, 1);
        (world.slow_calls, world.slow_guard) = (true, true);
        let (orders, faults, waits) = self.bounds;
        let broken = None;
        vec![Point {
            world,
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
                actions.push(Operation::Kept);
            }
            if at.world.call.is_some() {
                actions.extend([Operation::Lose(false), Operation::Lose(true)]);
            }
        }
        if at.waits > 0 {
            // To the next moment at which something is due.
            actions.push(Operation::Wait(0));
        }
        if at.world.call.is_some() {
            actions.extend([Operation::Serve, Operation::Answer]);
        }
        if !at.world.strays.is_empty() {
            actions.push(Operation::Stray);
        }
        actions.push(Operation::GuardSpeaks);
    }

    fn next_state(&self, last: &Point, op: Operation) -> Option<Point> {
        let mut next = last.clone();
        let world = &mut next.world;
        let done = match &op {
            Operation::Wait(_) => {
                next.waits -= 1;
                let ends = [world.wake(), world.store.next_end()];
                let wake = ends.into_iter().flatten().min().unwrap_or(world.now);
                world.wait(wake.saturating_sub(world.now))
            }
            _ => world.apply(&op),
        };
        match &op {
            Operation::Heartbeat | Operation::Update | Operation::Unregister => next.orders -= 1,
            Operation::Wait(_)
            | Operation::Serve
            | Operation::Answer
            | Operation::Stray
            | Operation::GuardSpeaks => {}
            _ => next.faults -= 1,
        }
        next.world.note_guard();
        next.broken = done.and_then(|()| next.world.wait(Duration::ZERO)).err();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Search>> {
        vec![
            Property::always("what is said is right", |_, at: &Point| at.broken.is_none()),
            Property::always(
                "it is as it should be soon after all is well",
                |_, at: &Point| at.broken.is_some() || at.world.clone().settle().is_ok(),
            ),
        ]
    }
}

#[test]
fn every_order_of_a_few_events_keeps_the_registration() {
    let full = prove::requested_cases().is_some();
    for (manual, shared) in [(false, false), (false, true), (true, false)] {
        // Without renewals of its own a registration has more orders in which things can happen.
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
        let why = |end: &Point| end.broken.clone().or(end.world.clone().settle().err());
        prove::check_model(model, 100, why);
    }
}
