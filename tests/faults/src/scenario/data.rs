//! What happens to the data of the store: compacted, set back, wiped, full.

use crate::clock::{now, pause, wait_until};
use crate::cut::Cut;
use crate::lab::{Evidence, Lab};
use crate::load;
use crate::proxy::Weather;
use crate::record::State;
use crate::scenario::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("compaction-while-cut", "B01", compaction_while_cut).proxied(),
        Scenario::new("delete-at-compaction", "B02", delete_at_compaction)
            .proxied()
            .on(1)
            .held(GHOST)
            .writes(1),
        Scenario::new("rollback", "B04", rollback).writes(0),
        Scenario::new("rollback-while-cut", "B05", rollback_while_cut),
        Scenario::new("wiped", "B07", wiped).writes(0),
        Scenario::new("nospace", "B13", nospace)
            .on(1)
            .arguments(&["--quota-backend-bytes=8000000"])
            .writes(0),
    ]
}

/// The clients are away while history that they have not seen is compacted.
fn compaction_while_cut(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    lab.fault(|| {
        away(proxy);
        let left = lab.truth.head();
        pause(2.0);
        let at = lab.truth.head();
        lab.cluster.ctl(&["compact", &at.to_string()])?;
        pause(1.0);
        proxy.weather(Weather::default());
        Ok(vec![("revisions compacted unseen", at - left)])
    })
}

/// An instance is deleted while the clients are away, and history compacted exactly there: a watch
/// that goes on from there is not told of it by servers of this age.
fn delete_at_compaction(lab: &Lab) -> Result<Evidence, String> {
    let proxy = lab.proxy()?;
    for _ in 0..5 {
        lab.cluster.ctl(&["put", &doomed(), "null"])?;
        lab.load.settle()?;
        lab.wait_rest(20.0)?;
        let last = lab.truth.last_of(load::SERVICE);
        if lab.truth.head() == last && delete_next(lab, proxy, last)? {
            // For longer than a ghost may be seen. The load does not come back before, so that
            // nothing else makes anybody look again.
            pause(GHOST + 1.0);
            return Ok(vec![("deletes at the compaction", 1)]);
        }
    }
    Err("something else is always written between".to_owned())
}

/// How long, in seconds, a delete that the server does not tell of may go unnoticed.
const GHOST: f64 = 4.0;

/// An instance that the load knows nothing of, so that nothing but its delete is told of it.
fn doomed() -> String {
    load::key(99)
}

/// False if another write came first, so that the delete is not the next thing to be heard of.
fn delete_next(lab: &Lab, proxy: &crate::proxy::Proxy, last: u64) -> Result<bool, String> {
    let began = now();
    away(proxy);
    lab.cluster.ctl(&["del", &doomed()])?;
    let done = wait_until(5.0, || lab.truth.last_of(load::SERVICE) > last);
    let deleted = lab.truth.last_of(load::SERVICE);
    let next = done && deleted == last + 1;
    if next {
        lab.cluster.ctl(&["compact", &deleted.to_string()])?;
        lab.cluster.ctl(&["put", &load::key(2), "null"])?;
    }
    proxy.weather(Weather::default());
    if next {
        lab.was_fault(began);
    }
    Ok(next)
}

/// Connections are reset, and new ones refused.
fn away(proxy: &crate::proxy::Proxy) {
    proxy.weather(Weather {
        refuse: true,
        ..Weather::default()
    });
    proxy.reset();
}

/// The store is set back to a snapshot of itself, and the clients see it at once.
fn rollback(lab: &Lab) -> Result<Evidence, String> {
    set_back(lab, false)
}

/// The same while the clients are away; when they come back it has got beyond what they had seen.
fn rollback_while_cut(lab: &Lab) -> Result<Evidence, String> {
    set_back(lab, true)
}

fn set_back(lab: &Lab, and_overtaken: bool) -> Result<Evidence, String> {
    let file = lab.directory().join("snapshot");
    let base = lab.cluster.save(&file)?;
    pause(2.0);
    lab.fault(|| {
        let cut = come_to_rest(lab)?;
        let lost = lab.truth.head() - base;
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.kill(member));
        lab.cluster.restore(&file)?;
        lab.truth.begin_epoch(base);
        lab.load.resume();
        if and_overtaken {
            lab.cluster.start_all();
            lab.wait_whole()?;
            let overtaken = wait_until(20.0, || lab.truth.head() > base + lost + 40);
            cut.heal();
            return Ok(vec![
                ("revisions lost", lost),
                ("overtaken", overtaken.into()),
            ]);
        }
        cut.heal();
        lab.cluster.start_all();
        lab.wait_whole()?;
        Ok(vec![("revisions lost", lost)])
    })
}

/// Stops the load, cuts off the clients, and waits until the recorder has everything: what somebody
/// saw just before the store lost it must be known.
fn come_to_rest(lab: &Lab) -> Result<Cut, String> {
    lab.load.pause();
    let cut = Cut::from(&lab.clients, &lab.cluster.addresses())?;
    let mut last = (0, now());
    let rested = wait_until(10.0, || {
        let head = lab.truth.head();
        if head != last.0 {
            last = (head, now());
        }
        now() - last.1 > 300_000
    });
    rested
        .then_some(cut)
        .ok_or_else(|| "the store does not come to rest".to_owned())
}

fn wiped(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let cut = come_to_rest(lab)?;
        let lost = lab.truth.head();
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.kill(member));
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.wipe(member));
        lab.truth.begin_epoch(0);
        lab.load.resume();
        cut.heal();
        lab.cluster.start_all();
        lab.wait_whole()?;
        Ok(vec![(
            "revisions lost",
            lost.saturating_sub(lab.truth.head()),
        )])
    })
}

/// The store is full: nothing can be written, and what is there can be read.
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
            .ctl(&["compact", &lab.truth.head().to_string()])?;
        lab.cluster.ctl(&["defrag"])?;
        lab.cluster.ctl(&["alarm", "disarm"])?;
        lab.wait_whole()?;
        Ok(vec![
            ("quota reached", full.into()),
            ("alarm", alarm.into()),
            ("writes failed", failed as u64),
            ("watchers current while full", reading.into()),
        ])
    })
}
