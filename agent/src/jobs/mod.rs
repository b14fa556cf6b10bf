//! What a configuration file asks for: instances of programs that know nothing of us, and commands to run
//! when a service changes.

pub mod plan;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use discover_core::{Claim, Result, ServiceName};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::http::json;
use crate::registry::{Asked, DEFAULT_TTL, Registry};
use crate::sets::{Kept, Sets};
use plan::{Member, Plan, Step, Watch, steps};

/// How soon to try again what the store refused for the moment.
const AGAIN: Duration = Duration::from_secs(1);

/// The jobs of one agent. They end with it.
pub struct Jobs {
    registry: Arc<Registry>,
    sets: Arc<Sets>,
    now: Plan,
    watches: JoinSet<()>,
    registering: JoinSet<()>,
}

impl Jobs {
    /// None yet.
    pub fn new(registry: Arc<Registry>, sets: Arc<Sets>) -> Jobs {
        let (now, watches, registering) = Default::default();
        Jobs {
            registry,
            sets,
            now,
            watches,
            registering,
        }
    }

    /// From here on does what this file asks for. A file that makes no sense changes nothing.
    pub async fn turn_to(&mut self, plan: Plan) -> Result<()> {
        plan.register.iter().try_for_each(|m| asked(m).map(drop))?;
        let watched = plan.watch.iter().map(|watch| {
            let service = ServiceName::new(&watch.service)?;
            Ok((watch.clone(), self.sets.open(&service)?))
        });
        let watched: Vec<(Watch, Arc<Kept>)> = watched.collect::<Result<_>>()?;
        if plan.watch != self.now.watch {
            self.watches.shutdown().await;
            for (watch, kept) in watched {
                self.watches.spawn(follow(watch, kept));
            }
        }
        // Those that were still trying would bring back what is not wanted any more.
        self.registering.shutdown().await;
        for step in steps(&self.now.register, &plan.register) {
            match step {
                Step::Unregister(member) => {
                    if let Err(error) = self.registry.withdraw(&asked(&member)?).await {
                        log::warn!("{} of {}: {error}", member.address, member.service);
                    }
                }
                Step::Register(member) => {
                    self.registering
                        .spawn(register(self.registry.clone(), asked(&member)?));
                }
            }
        }
        self.now = plan;
        Ok(())
    }
}

/// Registers, as soon as the store lets it.
async fn register(registry: Arc<Registry>, asked: Asked) {
    while let Err(error) = registry.register(asked.clone()).await {
        log::warn!(
            "cannot register {} of {}: {error}",
            asked.address,
            asked.service
        );
        if !error.is_retriable() {
            return;
        }
        sleep(AGAIN).await;
    }
}

fn asked(member: &Member) -> Result<Asked> {
    Ok(Asked {
        service: ServiceName::new(&member.service)?,
        id: member.address.clone(),
        address: member.address.clone(),
        attributes: member.attributes.clone(),
        tags: member.tags.clone(),
        ttl: DEFAULT_TTL,
        claim: Claim::TakeOver,
        owner: String::new(),
        // Whoever writes the file may run commands.
        check: member.check.clone().map(|c| c.read(true)).transpose()?,
        ours: true,
    })
}

/// Runs the command at each change, one after the other; what changes meanwhile is told together.
async fn follow(watch: Watch, kept: Arc<Kept>) {
    let mut cursor = kept.set.cursor();
    while cursor.changed().await {
        let events = cursor.drain();
        let about = |kind: &str| -> Vec<Value> {
            let of_kind = events.iter().filter(|event| event.kind() == kind);
            let instances = of_kind.filter_map(|event| event.instance());
            instances
                .filter_map(|i| serde_json::from_str(&json::instance(i)).ok())
                .collect()
        };
        let (up, update, down) = (about("up"), about("update"), about("down"));
        if up.is_empty() && update.is_empty() && down.is_empty() {
            continue;
        }
        let now = cursor.seen();
        let counts = [up.len(), update.len(), down.len(), now.online().len()];
        let told = json!({
            "service": watch.service,
            "up": up,
            "update": update,
            "down": down,
            "status": json::status(now, &kept.index(now)),
        });
        if let Err(error) = run(&watch, counts, &told.to_string()).await {
            log::warn!("the command of the watch of {}: {error}", watch.service);
        }
    }
}

async fn run(watch: &Watch, counts: [usize; 4], told: &str) -> std::io::Result<()> {
    let Some((program, arguments)) = watch.on_change.split_first() else {
        return Err(std::io::Error::other("there is none"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DISCOVERD_SERVICE", &watch.service);
    let names = ["UP", "UPDATE", "DOWN", "ONLINE"];
    for (name, count) in names.iter().zip(counts) {
        command.env(format!("DISCOVERD_{name}"), count.to_string());
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let within = Duration::from_millis(watch.timeout_ms.max(1));
    let done = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read has no need of it.
            let _ = stdin.write_all(told.as_bytes()).await;
        }
        child.wait().await
    };
    match timeout(within, done).await {
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(std::io::Error::other(format!("it ended with {status}"))),
        },
        Err(_) => {
            crate::health::check::kill_group(&child);
            let _ = child.wait().await;
            Err(std::io::Error::other(format!(
                "it was killed after {within:?}"
            )))
        }
    }
}
