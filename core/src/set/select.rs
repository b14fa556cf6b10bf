//! Client-side load balancing: picks one instance of a set. No policy waits or uses the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::model::Instance;
use crate::set::snapshot::Snapshot;

/// Policy by which an instance is picked.
///
/// Every policy picks instances of weight 0 only if all candidates have weight 0. Apart from that, `round_robin` and
/// `random` do not regard weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// In turn, oldest first.
    RoundRobin,
    /// At random with equal probability.
    Random,
    /// At random in proportion to the weights.
    Weighted,
    /// The less busy of two random instances, relative to its weight. Report the end of a call with `done`.
    P2c,
    /// The same instance for the same key; few keys move when the set changes (weighted rendezvous hashing,
    /// identical in every language and version).
    Hash(&'a str),
}

impl<'a> Policy<'a> {
    /// Names of the policies, the same in every language.
    pub const NAMES: [&'static str; 5] = ["round_robin", "random", "weighted", "p2c", "hash"];

    /// Parses a policy name.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the name is unknown, if `hash` has no key, or if another policy has a key.
    pub fn parse(name: &str, key: Option<&'a str>) -> Result<Policy<'a>> {
        let policy = match (name, key) {
            ("hash", Some(key)) => return Ok(Policy::Hash(key)),
            ("hash", None) => return Err(Error::invalid("policy hash needs a key")),
            ("round_robin", _) => Policy::RoundRobin,
            ("random", _) => Policy::Random,
            ("weighted", _) => Policy::Weighted,
            ("p2c", _) => Policy::P2c,
            _ => {
                let known = Policy::NAMES.join(", ");
                return Err(Error::invalid(format!(
                    "unknown policy {name:?}; known are {known}"
                )));
            }
        };
        match key {
            None => Ok(policy),
            Some(_) => Err(Error::invalid(format!("policy {name} takes no key"))),
        }
    }
}

/// Picks a candidate; none if there is no candidate.
pub(crate) fn pick(
    snapshot: &Snapshot,
    counter: &AtomicUsize,
    policy: Policy<'_>,
) -> Option<Arc<Instance>> {
    let at = choose(snapshot, counter, policy)?;
    snapshot.candidates().get(at).cloned()
}

/// Picks the index of a candidate.
pub(crate) fn choose(
    snapshot: &Snapshot,
    counter: &AtomicUsize,
    policy: Policy<'_>,
) -> Option<usize> {
    let online = snapshot.candidates();
    if online.is_empty() {
        return None;
    }
    let at = match policy {
        Policy::RoundRobin => counter.fetch_add(1, Ordering::Relaxed) % online.len(),
        Policy::Random => fastrand::usize(..online.len()),
        Policy::Weighted => weighted(snapshot.weights()),
        Policy::P2c => less_busy(online),
        Policy::Hash(key) => highest_hash(online, key),
    };
    if policy == Policy::P2c {
        online.get(at)?.load().begin();
    }
    Some(at)
}

fn weighted(sums: &[u64]) -> usize {
    match sums.last() {
        Some(0) | None => fastrand::usize(..sums.len().max(1)),
        Some(total) => {
            let point = fastrand::u64(..total);
            sums.partition_point(|sum| *sum <= point)
        }
    }
}

fn less_busy(online: &[Arc<Instance>]) -> usize {
    if online.len() == 1 {
        return 0;
    }
    let first = fastrand::usize(..online.len());
    // The second choice is never the first one again.
    let second = (first + fastrand::usize(1..online.len())) % online.len();
    let busy = |at: usize| {
        // All candidates have weight 0, or none has.
        f64::from(online[at].load().get() + 1) / f64::from(online[at].weight().max(1))
    };
    if busy(second) < busy(first) {
        second
    } else {
        first
    }
}

fn highest_hash(online: &[Arc<Instance>], key: &str) -> usize {
    let key = hash(key.as_bytes());
    let score = |instance: &Instance| {
        // Weighted rendezvous: −weight / ln(u) with u uniform in (0, 1).
        let bits = mix(key ^ hash(instance.id().as_bytes())) >> 11;
        let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(instance.weight()) / uniform.ln()
    };
    let scores = online.iter().map(|instance| score(instance)).enumerate();
    scores
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(0, |(at, _)| at)
}

/// FNV-1a. Must never change, because all processes must agree.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Finalizer of SplitMix64: spreads similar inputs.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Registration, View};
    use std::collections::HashMap;
    use std::time::SystemTime;

    fn snapshot(weights: &[(u16, u32)]) -> Snapshot {
        let instance = |&(port, weight): &(u16, u32)| {
            let made = Registration::new("web", port).unwrap().host("h").unwrap();
            let made = made.attributes([("weight", weight.to_string())]).unwrap();
            let made = made.instance(u64::from(port));
            (made.order(), Arc::new(made))
        };
        let view = View {
            instances: weights.iter().map(instance).collect(),
            ..View::default()
        };
        Snapshot::empty().with_view(view, SystemTime::UNIX_EPOCH)
    }

    fn picks(of: &Snapshot, n: usize, policy: Policy<'_>) -> Vec<u16> {
        let counter = AtomicUsize::new(0);
        (0..n)
            .map(|_| pick(of, &counter, policy).unwrap().port())
            .collect()
    }

    fn count(picks: &[u16]) -> HashMap<u16, usize> {
        picks.iter().fold(HashMap::new(), |mut counts, port| {
            *counts.entry(*port).or_default() += 1;
            counts
        })
    }

    /// S1.51.
    #[test]
    fn round_robin_takes_turns_and_an_empty_set_gives_none() {
        assert_eq!(
            picks(&snapshot(&[(1, 1), (2, 1), (3, 1)]), 5, Policy::RoundRobin),
            [1, 2, 3, 1, 2]
        );
        assert!(pick(&snapshot(&[]), &AtomicUsize::new(0), Policy::P2c).is_none());
    }

    #[test]
    fn no_policy_picks_weight_zero_unless_all_weights_are_zero() {
        fastrand::seed(7);
        for name in Policy::NAMES {
            let policy = Policy::parse(name, (name == "hash").then_some("k")).unwrap();
            let some = count(&picks(&snapshot(&[(1, 1), (2, 0), (3, 2)]), 200, policy));
            assert!(!some.contains_key(&2), "{name}: {some:?}");
            let all = count(&picks(&snapshot(&[(1, 0), (2, 0)]), 200, policy));
            let expected = if name == "hash" { 1 } else { 2 };
            assert_eq!(all.len(), expected, "{name}: {all:?}");
        }
    }

    #[test]
    fn weights_count_and_zero_is_left_out_unless_all_are_zero() {
        fastrand::seed(7);
        let counts = count(&picks(
            &snapshot(&[(1, 1), (2, 3), (3, 0)]),
            4000,
            Policy::Weighted,
        ));
        assert!((2800..3200).contains(&counts[&2]), "{counts:?}");
        assert!(!counts.contains_key(&3));
        assert_eq!(
            count(&picks(&snapshot(&[(1, 0), (2, 0)]), 100, Policy::Weighted)).len(),
            2
        );
    }

    #[test]
    fn of_two_the_less_busy_is_picked_and_done_counts_back() {
        let two = snapshot(&[(1, 1), (2, 1)]);
        let counts = count(&picks(&two, 100, Policy::P2c));
        assert_eq!((counts[&1], counts[&2]), (50, 50));
        (0..50).for_each(|_| two.online()[0].load().end());
        assert_eq!(count(&picks(&two, 50, Policy::P2c)).get(&2), None);
        (0..99).for_each(|_| two.online()[0].load().end());
        assert_eq!(two.online()[0].load().get(), 0);
    }

    #[test]
    fn a_hash_moves_only_the_keys_of_the_removed_instance() {
        let before = snapshot(&(1..=10).map(|p| (p, 1)).collect::<Vec<_>>());
        let after = snapshot(&(1..=9).map(|p| (p, 1)).collect::<Vec<_>>());
        let at = |of: &Snapshot, key: &str| picks(of, 1, Policy::Hash(key))[0];
        let mut moved = 0;
        for key in (0..1000).map(|n| n.to_string()) {
            let (old, new) = (at(&before, &key), at(&after, &key));
            assert!(old == new || old == 10, "{key}: {old} to {new}");
            moved += usize::from(old != new);
        }
        assert!((60..140).contains(&moved), "{moved}");
        // Golden values: every version and language must choose the same.
        assert_eq!(["a", "b", "user-17"].map(|key| at(&before, key)), [2, 5, 2]);
    }

    #[test]
    fn only_healthy_instances_are_picked_and_weak_ones_if_there_are_none() {
        let ports = |healths: &[&str]| {
            let instance = |(at, health): (usize, &&str)| {
                let made = Registration::new("web", at as i64 + 1).unwrap();
                let made = made.host("h").unwrap().attributes([("health", *health)]);
                let made = made.unwrap().instance(at as u64);
                (made.order(), Arc::new(made))
            };
            let view = View {
                instances: healths.iter().enumerate().map(instance).collect(),
                ..View::default()
            };
            let now = Snapshot::empty().with_view(view, SystemTime::UNIX_EPOCH);
            let counter = AtomicUsize::new(0);
            let picked = (0..4).filter_map(|_| pick(&now, &counter, Policy::RoundRobin));
            picked.map(|i| i.port()).collect::<Vec<u16>>()
        };
        assert_eq!(
            ports(&["critical", "passing", "warning", "odd"]),
            [2, 4, 2, 4]
        );
        assert_eq!(ports(&["draining", "warning", "maintenance"]), [2, 2, 2, 2]);
        assert!(ports(&["critical", "maintenance"]).is_empty());
    }

    #[test]
    fn names_are_checked() {
        for name in Policy::NAMES {
            assert!(Policy::parse(name, (name == "hash").then_some("k")).is_ok());
        }
        assert!(
            Policy::parse("best", None)
                .unwrap_err()
                .to_string()
                .contains("round_robin, random")
        );
        assert!(
            Policy::parse("hash", None).is_err() && Policy::parse("random", Some("k")).is_err()
        );
    }
}
