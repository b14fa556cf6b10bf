//! Faults of the host on which the programs run.

use std::process::{Child, Command, Stdio};

use crate::lab::{Evidence, Lab, NAME, TTL};
use crate::process;
use crate::scenario::Scenario;
use crate::watchers::MEMBERS;
use discover_testkit::clock::{now, pause, wait_until};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("client-frozen", "C03", client_frozen),
        Scenario::new("client-starved", "C12", client_starved).always_registered(),
        Scenario::new("clock-jumps", "C11", clock_jumps)
            .clocked()
            .reachable(0.0)
            .always_registered(),
        Scenario::new("name-moves", "A20", name_moves)
            .named()
            .reachable(1.0),
    ]
}

/// The programs are frozen for longer than their leases live, as on a suspended machine.
fn client_frozen(lab: &Lab) -> Result<Evidence, String> {
    let began = now();
    lab.fault(|| {
        let frozen = lab
            .watchers
            .iter()
            .filter(|w| process::freeze(w.pid()))
            .count();
        pause(TTL * 2.0);
        let expired = wait_until(3.0, || lab.ground_truth.deletions_since(MEMBERS, began) > 0);
        lab.watchers.iter().for_each(|w| process::thaw(w.pid()));
        Ok(vec![
            ("programs frozen", frozen as u64),
            ("registrations expired", expired.into()),
        ])
    })
}

/// All programs get the CPU time that two busy loops leave of one core, at the lowest priority.
fn client_starved(lab: &Lab) -> Result<Evidence, String> {
    let every = |work: &dyn Fn(u32) -> Result<(), String>| {
        lab.watchers
            .iter()
            .try_for_each(|watcher| work(watcher.pid()))
    };
    lab.fault(|| {
        every(&|pid| process::pin(pid, "0"))?;
        every(&|pid| process::renice(pid, 19))?;
        let busy: Vec<BusyLoop> = [BusyLoop::start()?, BusyLoop::start()?].into();
        pause(TTL * 3.0);
        let turned = busy.iter().map(BusyLoop::seconds).sum();
        drop(busy);
        every(&|pid| process::renice(pid, 0))?;
        every(&|pid| process::pin(pid, "0-4095"))?;
        Ok(vec![("CPU seconds taken away", turned)])
    })
}

/// The wall clock of the programs jumps by an hour, forward and back. Nothing may result from it.
fn clock_jumps(lab: &Lab) -> Result<Evidence, String> {
    let clock = lab.clock()?;
    let before = clock.reads()?;
    lab.fault(|| {
        for hours in [1, -1, 0] {
            clock.set(hours * 3600)?;
            pause(TTL);
        }
        Ok(vec![("reads of the clock", clock.reads()? - before)])
    })
}

/// The host name of the store gets the address of another member, then the first member dies: open connections stay, and new ones
/// resolve the name again.
fn name_moves(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let addresses = lab.cluster.addresses();
        lab.clients.resolve(NAME, addresses[1])?;
        lab.cluster.kill(0);
        pause(5.0);
        lab.cluster.start_member(0);
        lab.wait_healthy()?;
        let moved = crate::partition::received(&lab.clients)?;
        let there = moved
            .keys()
            .filter(|(_, peer)| *peer == addresses[1].to_string());
        Ok(vec![(
            "connections to the new address",
            there.count() as u64,
        )])
    })
}

/// A process that uses all CPU time it gets. Killed when dropped.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> Result<BusyLoop, String> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", "0", "sh", "-c"])
            .arg("while :; do :; done")
            .stdin(Stdio::null());
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let busy = BusyLoop(child);
        // The lab may have another priority, which its children inherit.
        process::renice(busy.0.id(), 0)?;
        Ok(busy)
    }

    /// Returns its CPU time in seconds.
    fn seconds(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        let ticks = |stat: &str| {
            stat.rsplit(") ")
                .next()?
                .split(' ')
                .nth(11)?
                .parse::<u64>()
                .ok()
        };
        // The kernel reports 100 ticks per second.
        ticks(&stat.unwrap_or_default()).unwrap_or_default() / 100
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
