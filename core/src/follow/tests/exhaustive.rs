//! Every order in which a few things can happen, for one watcher of two keys.

use stateright::{Model, Property};

use super::line::Why;
use super::ops::Op;
use super::store::Store;
use super::world::World;
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
    world: World,
    left: Left,
    broken: Option<String>,
}

struct Search {
    loses_deletes: bool,
    left: Left,
}

impl Model for Search {
    type State = Point;
    type Action = Op;

    fn init_states(&self) -> Vec<Point> {
        let mut store = Store::new(self.loses_deletes);
        store.write(&[(0, true)]);
        let mut world = World::new(store, 1);
        let broken = world.follow(0b11, false).and_then(|()| world.flow()).err();
        (world.slow_stream, world.slow_calls) = (true, true);
        let left = self.left.clone();
        vec![Point {
            world,
            left,
            broken,
        }]
    }

    fn actions(&self, at: &Point, actions: &mut Vec<Op>) {
        if at.broken.is_some() {
            return;
        }
        if at.left.writes > 0 {
            actions.push(Op::Write(vec![(0, true)]));
            actions.push(Op::Write(vec![(0, false)]));
            actions.push(Op::Write(vec![(0, true), (1, true)]));
        }
        if at.left.faults > 0 {
            actions.push(Op::Reset);
            actions.push(Op::Compact(0));
            actions.push(Op::RollBackAndWrite(1, vec![(0, true)]));
            actions.push(Op::RollBack(2));
            actions.push(Op::Repeat(0, 2));
            actions.push(Op::Cancel(0, Why::Refused));
        }
        if at.left.waits > 0 {
            // To the next moment at which something is due.
            actions.push(Op::Wait(0));
        }
        if let Some(line) = &at.world.line {
            actions.extend((!line.watches.is_empty()).then_some(Op::Pump(0, 1)));
            actions.extend((!line.wire.is_empty()).then_some(Op::Deliver(1)));
            let calls = line.calls.len();
            actions.extend((calls > 0).then_some(Op::Read(0)));
            actions.extend((0..calls.min(2)).map(Op::Answer));
        }
    }

    fn next_state(&self, last: &Point, op: Op) -> Option<Point> {
        let mut next = last.clone();
        let (world, left) = (&mut next.world, &mut next.left);
        let done = match &op {
            Op::Write(_) => {
                left.writes -= 1;
                world.apply(&op)
            }
            Op::Wait(_) => {
                left.waits -= 1;
                let wake = world.follower.wake().unwrap_or(world.now);
                world.wait(wake.saturating_sub(world.now))
            }
            Op::Pump(..) | Op::Deliver(_) | Op::Read(_) | Op::Answer(_) => world.apply(&op),
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
