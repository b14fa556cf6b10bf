//! Members that die, freeze and restart.

use crate::lab::{Evidence, Lab, TTL};
use crate::scenario::Scenario;
use crate::watchers::MEMBERS;
use discover_testkit::clock::{pause, wait_until};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("follower-kill", "A01", follower_kill).reachable(1.0),
        Scenario::new("leader-kill", "A02", leader_kill).reachable(2.0),
        Scenario::new("only-member-kill", "A01", only_member_kill)
            .on(1)
            .writes(0),
        Scenario::new("leader-stop", "A03", leader_stop).reachable(2.0),
        Scenario::new("leader-stop-short-ttl", "A03", leader_stop)
            .reachable(2.0)
            .ttl(2.0)
            .always_registered(),
        Scenario::new("all-stop", "A04", all_stop).writes(0),
        Scenario::new("pause-3-ttl", "C04", pause_for_three_ttl)
            .protected()
            .writes(0),
        Scenario::new("quorum-lost", "A15", quorum_lost).writes(0),
        Scenario::new("rolling-restart", "A16", rolling_restart).reachable(2.0),
        Scenario::new("member-replaced", "B17", member_replaced).reachable(2.0),
    ]
}

fn follower_kill(lab: &Lab) -> Result<Evidence, String> {
    let (watched, count) = lab.make_most_watched_leader()?;
    lab.cluster.lead((watched + 1) % lab.cluster.size())?;
    kill_and_restart(lab, watched, count)
}

fn leader_kill(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.make_most_watched_leader()?;
    kill_and_restart(lab, leader, watched)
}

fn kill_and_restart(lab: &Lab, member: usize, watched: u64) -> Result<Evidence, String> {
    lab.fault(|| {
        lab.cluster.kill(member);
        pause(5.0);
        lab.cluster.start_member(member);
        lab.wait_healthy()?;
        Ok(vec![
            ("members killed", 1),
            ("programs watching it", watched),
        ])
    })
}

fn only_member_kill(lab: &Lab) -> Result<Evidence, String> {
    let began = discover_testkit::clock::now();
    lab.fault(|| {
        lab.cluster.kill(0);
        pause(3.0);
        let failed = lab.load.failed_between(began, u64::MAX) as u64;
        lab.cluster.start_member(0);
        lab.wait_healthy()?;
        Ok(vec![("members killed", 1), ("writes failed", failed)])
    })
}

fn leader_stop(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.make_most_watched_leader()?;
    lab.fault(|| {
        let frozen = lab.cluster.freeze(leader);
        pause(6.0);
        lab.cluster.thaw(leader);
        lab.wait_healthy()?;
        Ok(vec![
            ("members frozen", frozen.into()),
            ("programs watching it", watched),
        ])
    })
}

fn all_stop(lab: &Lab) -> Result<Evidence, String> {
    stop_all_for(lab, TTL * 0.6)
}

/// All members are frozen for longer than leases live: the store expires all of them when it continues.
fn pause_for_three_ttl(lab: &Lab) -> Result<Evidence, String> {
    let began = discover_testkit::clock::now();
    let mut evidence = stop_all_for(lab, TTL * 3.0)?;
    let expired = || lab.ground_truth.deletions_since(MEMBERS, began) as u64;
    wait_until(3.0, || expired() > 0);
    evidence.push(("registrations expired", expired()));
    Ok(evidence)
}

fn stop_all_for(lab: &Lab, seconds: f64) -> Result<Evidence, String> {
    let began = discover_testkit::clock::now();
    lab.fault(|| {
        let frozen = lab
            .cluster
            .all()
            .into_iter()
            .filter(|m| lab.cluster.freeze(*m))
            .count();
        pause(seconds);
        let failed = lab.load.failed_between(began, u64::MAX);
        lab.cluster
            .all()
            .into_iter()
            .for_each(|member| lab.cluster.thaw(member));
        lab.wait_healthy()?;
        Ok(vec![
            ("members frozen", (frozen == lab.cluster.size()).into()),
            ("writes failed", failed as u64),
        ])
    })
}

fn quorum_lost(lab: &Lab) -> Result<Evidence, String> {
    let leader = lab.cluster.leader()?;
    let others = lab
        .cluster
        .all()
        .into_iter()
        .filter(|member| *member != leader);
    lab.fault(|| {
        others.clone().for_each(|member| lab.cluster.kill(member));
        pause(1.5);
        let began = discover_testkit::clock::now();
        pause(4.0);
        let ended = discover_testkit::clock::now();
        let (failed, written) = (
            lab.load.failed_between(began, ended),
            lab.load.committed_between(began, ended),
        );
        others.for_each(|member| lab.cluster.start_member(member));
        lab.wait_healthy()?;
        Ok(vec![
            ("writes failed", failed as u64),
            ("quiet", (written == 0).into()),
        ])
    })
}

fn rolling_restart(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        for member in lab.cluster.all() {
            lab.cluster.terminate(member);
            pause(1.0);
            lab.cluster.start_member(member);
            lab.wait_healthy()?;
            pause(1.0);
        }
        Ok(vec![("members restarted", lab.cluster.size() as u64)])
    })
}

/// The member that most programs watch is removed for good, and another takes its place.
fn member_replaced(lab: &Lab) -> Result<Evidence, String> {
    let (member, watched) = lab.make_most_watched_leader()?;
    lab.fault(|| {
        lab.cluster.remove(member)?;
        pause(4.0);
        lab.cluster.add(member)?;
        lab.wait_healthy()?;
        Ok(vec![
            ("members replaced", 1),
            ("programs watching it", watched),
        ])
    })
}
