//! What happens to the machine on which the programs run.

use std::process::{Child, Command, Stdio};

use crate::clock::{now, pause, wait_until};
use crate::lab::{Evidence, Lab, NAME, TTL};
use crate::process;
use crate::scenario::Scenario;
use crate::watchers::MEMBERS;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("client-frozen", "C03", client_frozen),
        Scenario::new("client-starved", "C12", client_starved).kept(),
        Scenario::new("clock-jumps", "C11", clock_jumps)
            .clocked()
            .reachable(0.0)
            .kept(),
        Scenario::new("name-moves", "A20", name_moves)
            .named()
            .reachable(1.0),
    ]
}

/// The programs stand still for longer than their leases live, as on a machine that sleeps.
fn client_frozen(lab: &Lab) -> Result<Evidence, String> {
    let began = now();
    lab.fault(|| {
        let frozen = lab
            .watchers
            .iter()
            .filter(|w| process::freeze(w.pid()))
            .count();
        pause(TTL * 2.0);
        let expired = wait_until(3.0, || lab.truth.deletions_since(MEMBERS, began) > 0);
        lab.watchers.iter().for_each(|w| process::thaw(w.pid()));
        Ok(vec![
            ("programs frozen", frozen as u64),
            ("registrations expired", expired.into()),
        ])
    })
}

/// All programs get what two that never rest leave of one processor, as the least of all.
fn client_starved(lab: &Lab) -> Result<Evidence, String> {
    let every = |work: &dyn Fn(u32) -> Result<(), String>| {
        lab.watchers
            .iter()
            .try_for_each(|watcher| work(watcher.pid()))
    };
    lab.fault(|| {
        every(&|pid| process::pin(pid, "0"))?;
        every(&|pid| process::renice(pid, 19))?;
        let restless: Vec<Restless> = [Restless::start()?, Restless::start()?].into();
        pause(TTL * 3.0);
        let turned = restless.iter().map(Restless::seconds).sum();
        drop(restless);
        every(&|pid| process::renice(pid, 0))?;
        every(&|pid| process::pin(pid, "0-4095"))?;
        Ok(vec![("seconds of processor taken away", turned)])
    })
}

/// The wall clock of the programs jumps by an hour, forth and back. Nothing may come of it.
fn clock_jumps(lab: &Lab) -> Result<Evidence, String> {
    let clock = lab.clock()?;
    let before = clock.asked()?;
    lab.fault(|| {
        for hours in [1, -1, 0] {
            clock.set(hours * 3600)?;
            pause(TTL);
        }
        Ok(vec![("times the clock was asked", clock.asked()? - before)])
    })
}

/// The name by which the programs know the store gets the address of another member, and then its first
/// one dies: who is connected stays so, and who connects again asks for the name again.
fn name_moves(lab: &Lab) -> Result<Evidence, String> {
    lab.fault(|| {
        let addresses = lab.cluster.addresses();
        lab.clients.resolve(NAME, addresses[1])?;
        lab.cluster.kill(0);
        pause(5.0);
        lab.cluster.start_member(0);
        lab.wait_whole()?;
        let moved = crate::cut::received(&lab.clients)?;
        let there = moved
            .keys()
            .filter(|(_, peer)| *peer == addresses[1].to_string());
        Ok(vec![(
            "connections to the new address",
            there.count() as u64,
        )])
    })
}

/// A process that never rests. Killed when dropped.
struct Restless(Child);

impl Restless {
    fn start() -> Result<Restless, String> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "-c", "0", "sh", "-c"])
            .arg("while :; do :; done")
            .stdin(Stdio::null());
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let restless = Restless(child);
        // The lab may be less nice than others, and its programs with it.
        process::renice(restless.0.id(), 0)?;
        Ok(restless)
    }

    /// How many seconds of a processor it has had.
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
        // A hundred ticks a second, on every Linux.
        ticks(&stat.unwrap_or_default()).unwrap_or_default() / 100
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
