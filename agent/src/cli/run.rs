//! `run`: runs the agent.

use std::path::{Path, PathBuf};

use discover_core::{Error, ErrorKind, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;
use tokio::time::{Duration, timeout};

use crate::cli::{logging, output, signals};
use crate::config::plan::Plan;
use crate::config::settings::Layer;
use crate::config::{self, Config, default_socket, resolve};
use crate::runtime::handover::{self, Inherited};
use crate::runtime::lifecycle::{self, RunningAgent};

/// Time in which the runtime reports a signal that this process received.
const SIGNAL_TIME: Duration = Duration::from_millis(5);

/// The arguments of `run`. The environment, the configuration file and the defaults provide what they leave open.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Read settings from this file, in TOML
    #[arg(long, value_name = "FILE", env = "DISCOVERD_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Layer,
    /// Validate the configuration, show each setting with its origin, and exit
    #[arg(long)]
    check: bool,
}

impl RunArgs {
    /// Returns true if the configuration is only validated.
    pub fn is_check(&self) -> bool {
        self.check
    }

    /// Combines the flags with the environment, the configuration file and the defaults.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or a setting is invalid.
    pub fn config(self) -> Result<Config> {
        let env = |name: &str| std::env::var(name).ok();
        let file = self.config.as_deref().map(config::read_file).transpose()?;
        let is_root = nix::unistd::geteuid().is_root();
        resolve(
            self.flags,
            Layer::from_env(env)?,
            file.unwrap_or_default(),
            default_socket(env, is_root),
        )
    }
}

/// Runs the agent until a signal ends it.
///
/// # Errors
///
/// Fails if the agent cannot start, or cannot hand over to the next process.
pub async fn run(arguments: RunArgs, inherited: Inherited) -> Result<()> {
    let config_file = arguments.config.clone();
    let only_check = arguments.check;
    let config = arguments.config()?;
    if only_check {
        let used = lifecycle::check(&config).await?;
        output::print(&settings(&config));
        for address in used {
            output::note(&format!(
                "an agent listens on {address} already; stop it before the start, or replace it with SIGUSR2"
            ));
        }
        output::print("the configuration is valid\n");
        return Ok(());
    }
    logging::start(config.log);
    let mut terminated = std::pin::pin!(signals::termination()?);
    let signals = Signals {
        hangups: signals::hangups()?,
        replacements: signals::replacements()?,
    };
    // What arrived while the previous process was replaced is handled now.
    signals::unblock()?;
    // After the file was replaced, the kernel reports a path that does not exist.
    let program = std::env::current_exe().map_err(|e| {
        let text = "cannot determine the path of the own program";
        Error::caused_by(ErrorKind::Resource, text, e)
    })?;
    let agent = tokio::select! {
        started = lifecycle::start(&config, inherited) => started?,
        signal = &mut terminated => {
            tracing::info!(signal, "signal received during the start, stopping");
            return Ok(());
        }
    };
    let serving = serve(&agent, &config, config_file.as_deref(), &program, signals);
    let next = tokio::select! {
        next = serving => next?,
        signal = &mut terminated => Next::Stop(signal),
    };
    let signal = match next {
        Next::Stop(signal) => signal,
        Next::Replace => {
            notify_systemd(&reloading());
            let (sockets, state) = agent.hand_over().await;
            // From here on, signals wait for the next process.
            signals::block()?;
            // A signal that arrived before stops this process.
            match timeout(SIGNAL_TIME, &mut terminated).await.ok() {
                None => return Err(handover::replace(&program, &sockets, &state)),
                Some(signal) => signal,
            }
        }
    };
    notify_systemd(&[NotifyState::Stopping]);
    let registrations = agent.registrations();
    tracing::info!(
        signal,
        registrations,
        "signal received, unregistering all instances"
    );
    agent.stop().await;
    Ok(())
}

/// The signals that do not end the process.
struct Signals {
    hangups: Signal,
    replacements: Signal,
}

/// The end of this process.
enum Next {
    /// The agent stops because of this signal.
    Stop(&'static str),
    /// The next process continues.
    Replace,
}

/// Applies the services and hooks of the configuration and handles signals, until the next process takes over.
async fn serve(
    agent: &RunningAgent,
    config: &Config,
    config_file: Option<&Path>,
    program: &Path,
    mut signals: Signals,
) -> Result<Next> {
    agent.apply(config.plan.clone()).await?;
    let urls = agent.urls.join(" ");
    // The process that started the agent reads this line.
    output::print(&format!("listening on {urls}\n"));
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(
        version,
        listeners = urls,
        store = agent.store(),
        "discoverd started"
    );
    notify_systemd(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            Some(()) = signals.hangups.recv() => {
                notify_systemd(&reloading());
                reload(agent, config_file).await;
                notify_systemd(&[NotifyState::Ready]);
            }
            Some(()) = signals.replacements.recv() => match handover::check_next(program).await {
                Ok(()) => {
                    tracing::info!(signal = "SIGUSR2", program = %program.display(), "handing over to the next process");
                    return Ok(Next::Replace);
                }
                Err(error) => {
                    tracing::error!(
                        signal = "SIGUSR2",
                        error = %error.report(),
                        "hand-over cancelled: the next process could not start"
                    );
                }
            },
        }
    }
}

/// Reloads the credentials, and the services and hooks of the configuration file. Files that are invalid change
/// nothing.
async fn reload(agent: &RunningAgent, config_file: Option<&Path>) {
    if !agent.credentials().is_empty() {
        match agent.credentials().reload() {
            Ok(()) => tracing::info!(signal = "SIGHUP", "certificate and token reloaded"),
            Err(error) => {
                tracing::error!(
                    signal = "SIGHUP",
                    error = %error.report(),
                    "cannot reload the certificate and the token, using the previous ones"
                );
            }
        }
    }
    let Some(path) = config_file else {
        tracing::info!(signal = "SIGHUP", "no configuration file to reload");
        return;
    };
    let read = config::read_file(path).and_then(|layer| Plan::new(layer.service, layer.watch));
    let applied = match read {
        Ok(plan) => agent.apply(plan).await,
        Err(error) => Err(error),
    };
    match applied {
        Ok(()) => {
            tracing::info!(signal = "SIGHUP", file = %path.display(), "configuration file reloaded")
        }
        Err(error) => tracing::error!(
            signal = "SIGHUP",
            file = %path.display(),
            error = %error.report(),
            "cannot reload the configuration file, nothing changed"
        ),
    }
}

/// Returns one line for each setting: its key in the configuration file, its value and its origin.
fn settings(config: &Config) -> String {
    let line = |setting: &config::settings::Setting| {
        let key = format!("{}.{}", setting.group, setting.key);
        let value = setting.value.as_deref().unwrap_or("-");
        format!("{key:<32} {value} ({})\n", setting.origin.name())
    };
    config.settings.iter().map(line).collect()
}

/// Returns the notification that the agent reloads, with the time that systemd requires.
fn reloading() -> Vec<NotifyState<'static>> {
    let now = NotifyState::monotonic_usec_now().ok();
    std::iter::once(NotifyState::Reloading).chain(now).collect()
}

/// Notifies systemd, if it started this process.
fn notify_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
