//! Every order in which a few things can happen to one registration.

use std::time::Duration;

use stateright::{Model, Property};

use super::ops::Op;
use super::world::World;
use crate::prove;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    world: World,
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
    type Action = Op;

    fn init_states(&self) -> Vec<Point> {
        let mut world = World::started(self.manual, self.shared, 1);
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

    fn actions(&self, at: &Point, actions: &mut Vec<Op>) {
        if at.broken.is_some() {
            return;
        }
        if at.orders > 0 {
            actions.extend([Op::Heartbeat, Op::Update, Op::Unregister]);
        }
        if at.faults > 0 {
            actions.extend([Op::Delete, Op::Overwrite, Op::Replace, Op::OtherLeaves]);
            actions.extend([Op::Revoke, Op::Elect]);
            if self.shared {
                actions.push(Op::Kept);
            }
            if at.world.call.is_some() {
                actions.extend([Op::Lose(false), Op::Lose(true)]);
            }
        }
        if at.waits > 0 {
            // To the next moment at which something is due.
            actions.push(Op::Wait(0));
        }
        if at.world.call.is_some() {
            actions.extend([Op::Serve, Op::Answer]);
        }
        if !at.world.strays.is_empty() {
            actions.push(Op::Stray);
        }
        actions.push(Op::GuardSpeaks);
    }

    fn next_state(&self, last: &Point, op: Op) -> Option<Point> {
        let mut next = last.clone();
        let world = &mut next.world;
        let done = match &op {
            Op::Wait(_) => {
                next.waits -= 1;
                let ends = [world.wake(), world.store.next_end()];
                let wake = ends.into_iter().flatten().min().unwrap_or(world.now);
                world.wait(wake.saturating_sub(world.now))
            }
            _ => world.apply(&op),
        };
        match &op {
            Op::Heartbeat | Op::Update | Op::Unregister => next.orders -= 1,
            Op::Wait(_) | Op::Serve | Op::Answer | Op::Stray | Op::GuardSpeaks => {}
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
    let full = prove::asked().is_some();
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
        prove::every_order(model, 100, why);
    }
}
