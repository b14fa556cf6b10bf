//! Every order in which a few things can happen, for one watcher of two keys.

use stateright::{Model, Property};

use super::connection_model::Why;
use super::harness::Harness;
use super::operations::Operation;
use super::store_model::Store;
use crate::prove;

/// How much may happen at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    writes: u8,
    faults: u8,
    waits: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Point {
    world: Harness,
    left: Left,
    broken: Option<String>,
}

struct Search {
    loses_deletes: bool,
    left: Left,
}

impl Model for Search {
    type State = Point;
    type Action = Operation;

    fn init_states(&self) -> Vec<Point> {
        let mut store = Store::new(self.loses_deletes);
        store.write(&[(0, true)]);
        let mut world = Harness::new(store, 1);
        let broken = world.follow(0b11, false).and_then(|()| world.flow()).err();
        (world.slow_stream, world.slow_calls) = (true, true);
        let left = self.left.clone();
        vec![Point {
            world,
            left,
            broken,
        }]
    }

    fn actions(&self, at: &Point, actions: &mut Vec<Operation>) {
        if at.broken.is_some() {
            return;
        }
        if at.left.writes > 0 {
            actions.push(Operation::Write(vec![(0, true)]));
            actions.push(Operation::Write(vec![(0, false)]));
            actions.push(Operation::Write(vec![(0, true), (1, true)]));
        }
        if at.left.faults > 0 {
            actions.push(Operation::Reset);
            actions.push(Operation::Compact(0));
            actions.push(Operation::RollBackAndWrite(1, vec![(0, true)]));
            actions.push(Operation::RollBack(2));
            actions.push(Operation::Repeat(0, 2));
            actions.push(Operation::CancelReason(0, Why::Refused));
        }
        if at.left.waits > 0 {
            // To the next moment at which something is due.
            actions.push(Operation::Wait(0));
        }
        if let Some(line) = &at.world.line {
            actions.extend((!line.watches.is_empty()).then_some(Operation::Pump(0, 1)));
            actions.extend((!line.wire.is_empty()).then_some(Operation::Deliver(1)));
            let calls = line.calls.len();
            actions.extend((calls > 0).then_some(Operation::Read(0)));
            actions.extend((0..calls.min(2)).map(Operation::Answer));
        }
    }

    fn next_state(&self, last: &Point, op: Operation) -> Option<Point> {
        let mut next = last.clone();
        let (world, left) = (&mut next.world, &mut next.left);
        let done = match &op {
            Operation::Write(_) => {
                left.writes -= 1;
                world.apply(&op)
            }
            Operation::Wait(_) => {
                left.waits -= 1;
                let wake = world.follower.wake().unwrap_or(world.now);
                world.wait(wake.saturating_sub(world.now))
            }
            Operation::Pump(..)
            | Operation::Deliver(_)
            | Operation::Read(_)
            | Operation::Answer(_) => world.apply(&op),
            _ => {
                left.faults -= 1;
                world.apply(&op)
            }
        };
        next.broken = done.and_then(|()| next.world.flow()).err();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Search>> {
        vec![
            Property::always("what is told is right", |_, at: &Point| at.broken.is_none()),
            Property::always("all is right soon after all is well", |_, at: &Point| {
                at.broken.is_some() || at.world.clone().settle().is_ok()
            }),
        ]
    }
}

fn search(loses_deletes: bool) {
    let left = match prove::asked() {
        Some(_) => Left {
            writes: 2,
            faults: 2,
            waits: 1,
        },
        None => Left {
            writes: 2,
            faults: 1,
            waits: 1,
        },
    };
    let model = Search {
        loses_deletes,
        left,
    };
    let why = |end: &Point| end.broken.clone().or(end.world.clone().settle().err());
    prove::every_order(model, 1000, why);
}

#[test]
fn every_order_of_a_few_events_is_followed() {
    search(false);
}

#[test]
fn every_order_of_a_few_events_is_followed_on_a_store_that_loses_deletes() {
    search(true);
}
