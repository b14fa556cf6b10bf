//! Network partitions.

use crate::lab::{Evidence, Lab};
use crate::partition::{Partition, open_ports};
use crate::scenario::Scenario;
use discover_testkit::clock::{now, pause};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("leader-isolated", "A05", leader_isolated).reachable(2.0),
        Scenario::new("leader-isolated-short-ttl", "A05", leader_isolated)
            .reachable(2.0)
            .ttl(2.0)
            .always_registered(),
        Scenario::new("cut-from-peers", "A06", cut_from_peers).reachable(4.0),
        Scenario::new("client-cut", "A07", client_cut),
        Scenario::new("client-cut-over-ttl", "C02", client_cut_over_ttl),
        Scenario::new("replies-cut", "A08", replies_cut),
        Scenario::new("half-open", "A09", half_open).reachable(0.0),
        Scenario::new("refuse", "A11", refuse),
        Scenario::new("flapping", "A14", flapping),
        Scenario::new("big-packets-lost", "A17", big_packets_lost).reachable(4.0),
    ]
}

/// The leader is cut off from its peers, the writers and the clients.
fn leader_isolated(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.make_most_watched_leader()?;
    let host = lab.cluster.host(leader);
    lab.fault(|| {
        let partition = Partition::everything(host)?;
        pause(6.0);
        let stopped = partition.heal();
        lab.wait_healthy()?;
        let moved = lab.cluster.leader()? != leader;
        Ok(vec![
            ("packets stopped", stopped),
            ("election", moved.into()),
            ("programs watching it", watched),
        ])
    })
}

/// The leader loses its peers, but the clients still reach it: it answers and receives nothing new.
fn cut_from_peers(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.make_most_watched_leader()?;
    let own = lab.cluster.host(leader).address;
    let peers: Vec<_> = lab
        .cluster
        .addresses()
        .into_iter()
        .filter(|a| *a != own)
        .collect();
    lab.fault(|| {
        let partition = Partition::from(lab.cluster.host(leader), &peers)?;
        pause(8.0);
        let stopped = partition.heal();
        lab.wait_healthy()?;
        let moved = lab.cluster.leader()? != leader;
        Ok(vec![
            ("packets stopped", stopped),
            ("election", moved.into()),
            ("programs watching it", watched),
        ])
    })
}

fn client_cut(lab: &Lab) -> Result<Evidence, String> {
    cut_clients(lab, 4.0)
}

fn client_cut_over_ttl(lab: &Lab) -> Result<Evidence, String> {
    cut_clients(lab, crate::lab::TTL * 2.0)
}

fn cut_clients(lab: &Lab, seconds: f64) -> Result<Evidence, String> {
    lab.fault(|| {
        let partition = Partition::from(&lab.clients, &lab.cluster.addresses())?;
        pause(seconds);
        Ok(vec![("packets stopped", partition.heal())])
    })
}

fn replies_cut(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let partition = Partition::replies(&lab.clients, &lab.cluster.addresses())?;
        pause(5.0);
        Ok(vec![("packets stopped", partition.heal())])
    })
}

fn half_open(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let before = open_ports(&lab.clients)?;
        let partition = Partition::open_connections(&lab.clients)?;
        pause(12.0);
        let fresh = open_ports(&lab.clients)?
            .iter()
            .filter(|port| !before.contains(port))
            .count();
        Ok(vec![
            ("connections dead", before.len() as u64),
            ("packets stopped", partition.heal()),
            ("new connections", fresh as u64),
        ])
    })
}

fn refuse(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let partition = Partition::refuse(&lab.clients)?;
        pause(4.0);
        Ok(vec![("packets refused", partition.heal())])
    })
}

fn flapping(lab: &Lab) -> Result<Evidence, String> {
    let mut stopped = Vec::new();
    lab.fault(|| {
        for _ in 0..6 {
            let began = now();
            let partition = Partition::from(&lab.clients, &lab.cluster.addresses())?;
            pause(0.7 - ((now() - began) as f64 / 1e6).min(0.6));
            stopped.push(partition.heal());
            pause(0.7);
        }
        let flaps = stopped.iter().filter(|count| **count > 0).count();
        Ok(vec![
            ("packets stopped", stopped.iter().sum()),
            ("flaps of six", (flaps == 6).into()),
        ])
    })
}

/// Only small packets arrive from two of three members: large responses are lost, small ones are not. The third member is healthy.
fn big_packets_lost(lab: &Lab) -> Result<Evidence, String> {
    let (watched, count) = lab.make_most_watched_leader()?;
    let addresses = lab.cluster.addresses();
    let healthy = (watched + 1) % addresses.len();
    let faulty: Vec<_> = addresses
        .iter()
        .filter(|address| **address != addresses[healthy])
        .copied()
        .collect();
    lab.fault(|| {
        let partition = Partition::big(&lab.clients, &faulty)?;
        // Clients that reconnect list, which is a large response.
        lab.cluster.kill(watched);
        pause(2.0);
        lab.cluster.start_member(watched);
        lab.wait_healthy()?;
        pause(6.0);
        Ok(vec![
            ("packets stopped", partition.heal()),
            ("programs watching it", count),
        ])
    })
}
