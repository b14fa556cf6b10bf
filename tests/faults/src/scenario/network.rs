//! Cuts between machines.

use crate::clock::{now, pause};
use crate::cut::{Cut, open_ports};
use crate::lab::{Evidence, Lab};
use crate::scenario::Scenario;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("leader-isolated", "A05", leader_isolated).reachable(2.0),
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

/// The leader is cut from everyone: its peers, the writers and the clients.
fn leader_isolated(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.lead_where_watched()?;
    let host = lab.cluster.host(leader);
    lab.fault(|| {
        let cut = Cut::everything(host)?;
        pause(6.0);
        let stopped = cut.heal();
        lab.wait_whole()?;
        let moved = lab.cluster.leader()? != leader;
        Ok(vec![
            ("packets stopped", stopped),
            ("election", moved.into()),
            ("programs watching it", watched),
        ])
    })
}

/// The leader loses its peers, and the clients still reach it: it answers, and knows nothing new.
fn cut_from_peers(lab: &Lab) -> Result<Evidence, String> {
    let (leader, watched) = lab.lead_where_watched()?;
    let own = lab.cluster.host(leader).address;
    let peers: Vec<_> = lab
        .cluster
        .addresses()
        .into_iter()
        .filter(|a| *a != own)
        .collect();
    lab.fault(|| {
        let cut = Cut::from(lab.cluster.host(leader), &peers)?;
        pause(8.0);
        let stopped = cut.heal();
        lab.wait_whole()?;
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
        let cut = Cut::from(&lab.clients, &lab.cluster.addresses())?;
        pause(seconds);
        Ok(vec![("packets stopped", cut.heal())])
    })
}

fn replies_cut(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let cut = Cut::replies(&lab.clients, &lab.cluster.addresses())?;
        pause(5.0);
        Ok(vec![("packets stopped", cut.heal())])
    })
}

fn half_open(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let before = open_ports(&lab.clients)?;
        let cut = Cut::open_connections(&lab.clients)?;
        pause(12.0);
        let fresh = open_ports(&lab.clients)?
            .iter()
            .filter(|port| !before.contains(port))
            .count();
        Ok(vec![
            ("connections dead", before.len() as u64),
            ("packets stopped", cut.heal()),
            ("new connections", fresh as u64),
        ])
    })
}

fn refuse(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let cut = Cut::refuse(&lab.clients)?;
        pause(4.0);
        Ok(vec![("packets refused", cut.heal())])
    })
}

fn flapping(lab: &Lab) -> Result<Evidence, String> {
    let mut stopped = Vec::new();
    lab.fault(|| {
        for _ in 0..6 {
            let began = now();
            let cut = Cut::from(&lab.clients, &lab.cluster.addresses())?;
            pause(0.7 - ((now() - began) as f64 / 1e6).min(0.6));
            stopped.push(cut.heal());
            pause(0.7);
        }
        let flaps = stopped.iter().filter(|count| **count > 0).count();
        Ok(vec![
            ("packets stopped", stopped.iter().sum()),
            ("flaps of six", (flaps == 6).into()),
        ])
    })
}

/// On the way from two members of three only small packets arrive: who asks for much gets nothing, and
/// who asks for little does not notice. The third is well.
fn big_packets_lost(lab: &Lab) -> Result<Evidence, String> {
    let (watched, count) = lab.lead_where_watched()?;
    let addresses = lab.cluster.addresses();
    let well = (watched + 1) % addresses.len();
    let ill: Vec<_> = addresses
        .iter()
        .filter(|address| **address != addresses[well])
        .copied()
        .collect();
    lab.fault(|| {
        let cut = Cut::big(&lab.clients, &ill)?;
        // Whoever comes back lists, which is much.
        lab.cluster.kill(watched);
        pause(2.0);
        lab.cluster.start_member(watched);
        lab.wait_whole()?;
        pause(6.0);
        Ok(vec![
            ("packets stopped", cut.heal()),
            ("programs watching it", count),
        ])
    })
}
