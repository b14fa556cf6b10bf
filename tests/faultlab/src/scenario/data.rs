//! Faults of the data of the store: compacted, restored, wiped, full.

use crate::lab::{Evidence, Lab};
use crate::load;
use crate::partition::Partition;
use crate::scenario::Scenario;
use crate::watcher_output::State;
use discover_testkit::clock::{now, pause, wait_until};
use discover_testkit::proxy::Faults;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("compaction-while-cut", "B01", compaction_while_cut).proxied(),
        Scenario::new("delete-at-compaction", "B02", delete_at_compaction)
            .proxied()
            .on(1)
            .retained(GHOST)
            .writes(1),
        Scenario::new("rollback", "B04", rollback).writes(0),
        Scenario::new("rollback-while-cut", "B05", rollback_while_cut),
        Scenario::new("wiped", "B07", wiped).writes(0),
        Scenario::new("churn", "F06", churn).reachable(0.0),
        Scenario::new("nospace", "B13", nospace)
            .on(1)
            .arguments(&["--quota-backend-bytes=8000000"])
            .writes(0),
    ]
}

/// Revisions that the clients have not seen are compacted while they are disconnected.
fn compaction_while_cut(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        away(proxy);
        let left = lab.ground_truth.head();
        pause(2.0);
        let at = lab.ground_truth.head();
        lab.cluster.ctl(&["compact", &at.to_string()])?;
        pause(1.0);
        proxy.set_faults(Faults::default());
        Ok(vec![("revisions compacted unseen", at - left)])
    })
}

/// Instances come, and leave in every way: by expiry, a deleted key, and a revoked lease. Some leave together.
fn churn(lab: &Lab) -> Result<Evidence, String> {
    let mut left = [0; 3];
    lab.fault(|| {
        for round in 0..12 {
            let granted = lab.cluster.ctl(&["lease", "grant", "2"])?;
            let lease = granted.split_whitespace().nth(1).unwrap_or_default();
            let option = format!("--lease={lease}");
            let keys: Vec<String> = (0..=round % 3).map(|n| load::key(60 + n)).collect();
            for key in &keys {
                lab.cluster.ctl(&["put", &option, key, "null"])?;
            }
            pause(0.5);
            let way = round % 4;
            match way {
                // Without a renewal, the lease expires after its TTL, and half of it at the latest.
                0 | 1 => pause(3.5),
                2 => keys
                    .iter()
                    .try_for_each(|key| lab.cluster.ctl(&["del", key]).map(drop))?,
                _ => drop(lab.cluster.ctl(&["lease", "revoke", lease])?),
            }
            left[way.saturating_sub(1)] += keys.len() as u64;
        }
        let [expired, deleted, revoked] = left;
        Ok(vec![
            ("instances expired", expired),
            ("instances deleted", deleted),
            ("leases revoked", revoked),
        ])
    })
}

/// Deletes an instance while the clients are disconnected and compacts the history at the revision of the delete. Some versions
/// of etcd do not send such a delete to a watch that resumes there.
fn delete_at_compaction(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    for _ in 0..5 {
        lab.cluster.ctl(&["put", &doomed(), "null"])?;
        lab.load.stop_with_stable_set()?;
        lab.wait_quiescent(20.0)?;
        let last = lab.ground_truth.last_of(load::SERVICE);
        if lab.ground_truth.head() == last && delete_next(lab, proxy, last)? {
            // Longer than a ghost may be shown. The load resumes later, so that no other write
            // makes the clients read again.
            pause(GHOST + 1.0);
            return Ok(vec![("deletes at the compaction", 1)]);
        }
    }
    Err("another write always comes between".to_owned())
}

/// How long, in seconds, a delete that the server drops may go unnoticed.
const GHOST: f64 = 4.0;

/// An instance that the load does not write, so that only its delete is sent.
fn doomed() -> String {
    load::key(99)
}

/// Returns false if another write came first, so that the delete is not the next event.
fn delete_next(
    lab: &Lab,
    proxy: &discover_testkit::proxy::FaultProxy,
    last: u64,
) -> Result<bool, String> {
    let began = now();
    away(proxy);
    lab.cluster.ctl(&["del", &doomed()])?;
    let done = wait_until(5.0, || lab.ground_truth.last_of(load::SERVICE) > last);
    let deleted = lab.ground_truth.last_of(load::SERVICE);
    let next = done && deleted == last + 1;
    if next {
        lab.cluster.ctl(&["compact", &deleted.to_string()])?;
        lab.cluster.ctl(&["put", &load::key(2), "null"])?;
    }
    proxy.set_faults(Faults::default());
    if next {
        lab.record_fault(began);
    }
    Ok(next)
}

/// Resets all connections and refuses new ones.
fn away(proxy: &discover_testkit::proxy::FaultProxy) {
    proxy.set_faults(Faults {
        refuse: true,
        ..Faults::default()
    });
    proxy.reset();
}

/// The store is restored from its own snapshot, and the clients see it immediately.
fn rollback(lab: &Lab) -> Result<Evidence, String> {
    set_back(lab, false)
}

/// As `rollback`, while the clients are disconnected; when they reconnect, the store has passed the revision they had seen.
fn rollback_while_cut(lab: &Lab) -> Result<Evidence, String> {
    set_back(lab, true)
}

fn set_back(lab: &Lab, and_overtaken: bool) -> Result<Evidence, String> {
    let file = lab.directory().join("snapshot");
    let base = lab.cluster.save(&file)?;
    pause(2.0);
    lab.fault(|| {
        let cut = come_to_rest(lab)?;
        let lost = lab.ground_truth.head() - base;
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.kill(member));
        lab.cluster.restore(&file)?;
        lab.ground_truth.begin_epoch(base);
        lab.load.resume();
        if and_overtaken {
            lab.cluster.start_all();
            lab.wait_healthy()?;
            let overtaken = wait_until(20.0, || lab.ground_truth.head() > base + lost + 40);
            cut.heal();
            return Ok(vec![
                ("revisions lost", lost),
                ("overtaken", overtaken.into()),
            ]);
        }
        cut.heal();
        lab.cluster.start_all();
        lab.wait_healthy()?;
        Ok(vec![("revisions lost", lost)])
    })
}

/// Stops the load, disconnects the clients, and waits until the recorder has everything: what a client saw just before the store
/// lost it must be known.
fn come_to_rest(lab: &Lab) -> Result<Partition, String> {
    lab.load.pause();
    let cut = Partition::from(&lab.clients, &lab.cluster.addresses())?;
    let mut last = (0, now());
    let rested = wait_until(10.0, || {
        let head = lab.ground_truth.head();
        if head != last.0 {
            last = (head, now());
        }
        now() - last.1 > 300_000
    });
    rested
        .then_some(cut)
        .ok_or_else(|| "the store does not become quiescent".to_owned())
}

fn wiped(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let cut = come_to_rest(lab)?;
        let lost = lab.ground_truth.head();
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.kill(member));
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.wipe(member));
        lab.ground_truth.begin_epoch(0);
        lab.load.resume();
        cut.heal();
        lab.cluster.start_all();
        lab.wait_healthy()?;
        Ok(vec![(
            "revisions lost",
            lost.saturating_sub(lab.ground_truth.head()),
        )])
    })
}

/// The store is full: writes fail, reads work.
fn nospace(lab: &Lab) -> Result<Evidence, String> {
    let began = now();
    let big = "x".repeat(1_000_000);
    let fill = lab.directory().join("fill");
    std::fs::write(&fill, big).map_err(|e| e.to_string())?;
    lab.fault(|| {
        let full = wait_until(20.0, || lab.cluster.fill("/fill", &fill).is_err());
        pause(3.0);
        let alarm = lab.cluster.ctl(&["alarm", "list"])?.contains("NOSPACE");
        let failed = lab.load.failed_between(began, u64::MAX);
        let watching = lab
            .watchers
            .iter()
            .filter_map(|w| w.last(load::SERVICE))
            .count();
        let reading = lab
            .watchers
            .iter()
            .filter_map(|w| w.last(load::SERVICE))
            .filter(|s| s.state == State::Current);
        let reading = reading.count() == watching;
        lab.cluster
            .ctl(&["compact", &lab.ground_truth.head().to_string()])?;
        lab.cluster.ctl(&["defrag"])?;
        lab.cluster.ctl(&["alarm", "disarm"])?;
        lab.wait_healthy()?;
        Ok(vec![
            ("quota reached", full.into()),
            ("alarm", alarm.into()),
            ("writes failed", failed as u64),
            ("watchers current while full", reading.into()),
        ])
    })
}
