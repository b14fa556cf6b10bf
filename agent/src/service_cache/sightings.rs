//! When the agent first saw the online instances of a service, as wall-clock times. Pure.
//!
//! Stores order instances by revisions, which say nothing about the time. Instances that are online when the agent begins
//! to watch a service came online at an unknown earlier time.

use std::collections::HashMap;
use std::time::SystemTime;

use discover_core::{Event, Instance};

/// Time at which the agent first saw an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The time, of the agent's clock.
    pub at: SystemTime,
    /// Whether the instance was online before the agent began to watch its service.
    pub was_online_before: bool,
}

/// Sightings of the instances of one service that are online.
#[derive(Debug, Default)]
pub struct Sightings {
    /// By revision at which the instance came online, and id.
    seen: HashMap<(u64, String), Sighting>,
    /// Whether the first state of the service was seen.
    is_complete: bool,
}

impl Sightings {
    /// Applies the events that lead to a state of the service. `is_ready` is true if the store has reported one.
    pub fn apply(&mut self, events: &[Event], is_ready: bool, now: SystemTime) {
        for event in events {
            match event {
                Event::Up(instance) | Event::Update(instance) => {
                    self.get_or_record(instance, now);
                }
                Event::Down(instance) => {
                    self.seen.remove(&key(instance));
                }
                _ => {}
            }
        }
        self.is_complete |= is_ready;
    }

    /// Returns the sighting of an instance. One that is not known yet is seen now.
    pub fn get_or_record(&mut self, instance: &Instance, now: SystemTime) -> Sighting {
        let sighting = Sighting {
            at: now,
            was_online_before: !self.is_complete,
        };
        *self.seen.entry(key(instance)).or_insert(sighting)
    }
}

fn key(instance: &Instance) -> (u64, String) {
    (instance.created(), instance.id().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::Registration;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    fn instance(port: u16) -> Arc<Instance> {
        let web = Registration::new("web", port).unwrap().host("h").unwrap();
        Arc::new(web.instance(u64::from(port)))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn instances_of_the_first_state_were_online_before_and_later_ones_came_then() {
        let mut sightings = Sightings::default();
        sightings.apply(&[Event::Up(instance(1))], true, at(10));
        sightings.apply(&[Event::Up(instance(2))], true, at(20));
        sightings.apply(&[Event::Update(instance(2))], true, at(30));
        let mut seen = |port| sightings.get_or_record(&instance(port), at(40));
        let (first, second) = (seen(1), seen(2));
        assert_eq!((first.at, first.was_online_before), (at(10), true));
        assert_eq!((second.at, second.was_online_before), (at(20), false));
    }

    #[test]
    fn an_instance_that_went_offline_is_forgotten() {
        let mut sightings = Sightings::default();
        sightings.apply(&[Event::Up(instance(1))], true, at(10));
        sightings.apply(&[Event::Down(instance(1))], true, at(20));
        assert!(sightings.seen.is_empty());
        assert_eq!(sightings.get_or_record(&instance(1), at(30)).at, at(30));
    }
}
