//! Hooks: commands of the configuration file that run when a service changes.

pub mod change;
pub mod hook;

use discover_core::{Client, Cursor, HumanDuration, Result, printable_excerpt};
use futures_util::future::{BoxFuture, FutureExt, join_all, ready};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::exec::{self, CommandOutput};
use crate::runtime::component::Component;
use crate::runtime::metrics::MetricsWriter;
use change::Change;
use hook::Hook;

/// Maximum length of the output of a command in the log, in characters.
const MAX_LOGGED_CHARS: usize = 1024;

/// The component that runs the hooks.
pub struct Hooks {
    client: Client,
    running: Mutex<Vec<RunningHook>>,
}

struct RunningHook {
    hook: Hook,
    /// The task that follows the service. Dropping it kills the command, too.
    task: JoinSet<()>,
}

/// The result of [`Hooks::prepare`]: the hooks to run, and the services of the new ones.
pub struct PreparedHooks {
    hooks: Vec<Hook>,
    new: Vec<(Hook, Cursor)>,
}

impl Hooks {
    /// Creates the component without hooks.
    pub fn new(client: Client) -> Hooks {
        Hooks {
            client,
            running: Mutex::default(),
        }
    }

    /// Prepares the change to these hooks, without running any.
    ///
    /// # Errors
    ///
    /// Fails if the service of a new hook cannot be watched.
    pub async fn prepare(&self, hooks: Vec<Hook>) -> Result<PreparedHooks> {
        let running = self.running.lock().await;
        let is_new = |hook: &&Hook| running.iter().all(|running| running.hook != **hook);
        let new = hooks.iter().filter(is_new);
        let new = new.map(|hook| self.cursor(hook).map(|cursor| (hook.clone(), cursor)));
        let new = new.collect::<Result<Vec<_>>>()?;
        Ok(PreparedHooks { hooks, new })
    }

    /// Ends the hooks that are not among the prepared ones, and starts the new ones. The others continue.
    pub async fn commit(&self, prepared: PreparedHooks) {
        let mut running = self.running.lock().await;
        let (kept, mut removed): (Vec<_>, Vec<_>) = std::mem::take(&mut *running)
            .into_iter()
            .partition(|running| prepared.hooks.contains(&running.hook));
        *running = kept;
        join_all(removed.iter_mut().map(|removed| removed.task.shutdown())).await;
        for (hook, cursor) in prepared.new {
            let mut task = JoinSet::new();
            task.spawn(run(hook.clone(), cursor));
            running.push(RunningHook { hook, task });
        }
    }

    async fn close(&self) {
        let mut running = self.running.lock().await;
        join_all(running.iter_mut().map(|running| running.task.shutdown())).await;
    }

    fn cursor(&self, hook: &Hook) -> Result<Cursor> {
        let set = self.client.services(&hook.service)?;
        let filtered = set.filter(hook.attributes.clone(), hook.tag.0.iter().cloned());
        Ok(filtered.cursor())
    }
}

impl Component for Hooks {
    fn name(&self) -> &'static str {
        "hooks"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        self.close().boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        self.close().boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> std::fmt::Result {
        // A reload holds the lock for as long as commands take to end; the gauge is left out meanwhile.
        match self.running.try_lock() {
            Ok(running) => out.gauge("discoverd_hooks", "Hooks that are active", running.len()),
            Err(_) => Ok(()),
        }
    }
}

/// Runs the command of a hook for each change, never twice at the same time: all changes during a run of the
/// command are combined into one.
async fn run(hook: Hook, mut cursor: Cursor) {
    while cursor.changed().await {
        let events = cursor.drain();
        let Some(change) = Change::new(&hook.service, events, cursor.seen().clone()) else {
            continue;
        };
        let timeout = hook.command_timeout();
        let ran = exec::run(&hook.command, &change.env(), change.input(), timeout).await;
        log_run(&hook, change.kind, ran);
    }
}

/// Logs the result of a command with the beginning of its output, escaped.
fn log_run(hook: &Hook, event: &str, ran: Result<CommandOutput>) {
    let (service, command) = (hook.service.as_str(), hook.command.text());
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => {
            tracing::warn!(service, error = %error.report(), "cannot run the command of a hook");
            return;
        }
    };
    let output = printable_excerpt(ran.output.trim_end(), MAX_LOGGED_CHARS);
    let output = Some(output.as_str()).filter(|output| !output.is_empty());
    match ran.status {
        Some(status) if status.success() => {
            tracing::info!(service, event, command, output, "hook ran");
        }
        Some(status) => {
            tracing::warn!(service, event, command, %status, output, "the command of a hook failed");
        }
        None => tracing::warn!(
            service,
            event,
            command,
            timeout = %HumanDuration(hook.command_timeout()),
            output,
            "the command of a hook was killed: it did not finish in time"
        ),
    }
}
