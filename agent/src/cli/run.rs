//! `run`: the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use discover_core::{Error, ErrorKind, HumanDuration, Result};
use futures_util::FutureExt;
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use crate::cli::{logging, output, signals, time};
use crate::config::{Given, Settings, default_socket, resolve};
use crate::runtime::handover::{self, Inherited};
use crate::runtime::lifecycle::{self, Running};
use crate::sources::config_file::plan::Plan;

/// How the agent runs. What is not given comes from the environment, then from the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Read settings from this file, in TOML
    #[arg(long, value_name = "FILE", env = "DISCOVERD_CONFIG")]
    config: Option<PathBuf>,
    /// The registry to stand in front of [default: one of its own, in memory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The address to listen on, or none [default: 127.0.0.1:1111]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// The socket to listen on, or none [default: $XDG_RUNTIME_DIR/discoverd.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// The file in which a registry of the agent's own survives a crash, or none [default: beside the
    /// socket]
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// This host's address for others: an address, or rules such as eth0:inet,10.0.0.0/8
    #[arg(long, value_name = "RULES")]
    advertise: Option<String>,
    /// Ask for the token in this file, over TCP
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Speak TLS on the address, with this certificate, in PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Ask clients for a certificate of this authority
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Further names by which this agent may be called over TCP, at commas
    #[arg(long, value_name = "NAMES")]
    hosts: Option<String>,
    /// Log as text or json
    #[arg(long, value_name = "FORM")]
    log: Option<String>,
    /// The most connections
    #[arg(long, value_name = "COUNT")]
    connections: Option<usize>,
    /// The most connections from one address, or of one user [default: 128 from another host, 1024 of a user]
    #[arg(long, value_name = "COUNT")]
    connections_of_one: Option<usize>,
    /// The most event streams
    #[arg(long, value_name = "COUNT")]
    streams: Option<usize>,
    /// The most services that are watched at a time
    #[arg(long, value_name = "COUNT")]
    services: Option<usize>,
    /// Let whoever may register have commands run, as health checks
    #[arg(long)]
    allow_exec: bool,
    /// The most instances that are looked at [default: 1024]
    #[arg(long, value_name = "COUNT")]
    checks: Option<usize>,
    /// The shortest interval of checks that are declared over the API [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    check_interval: Option<Duration>,
    /// Networks that anybody may have looked at, at commas
    #[arg(long, value_name = "NETWORKS")]
    check_targets: Option<String>,
    /// Look whether it could run like this, and end
    #[arg(long)]
    check: bool,
}

impl RunArgs {
    /// With what the environment and the file say.
    pub fn settings(self) -> Result<Settings> {
        let env = |name: &str| std::env::var(name).ok();
        let file = self.config.as_deref().map(Given::file).transpose()?;
        let flags = Given {
            store: self.store,
            bind: self.bind,
            socket: self.socket,
            state: self.state,
            advertise: self.advertise,
            token_file: self.token_file,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_client_ca: self.tls_client_ca,
            hosts: self.hosts,
            log: self.log,
            connections: self.connections,
            connections_of_one: self.connections_of_one,
            streams: self.streams,
            services: self.services,
            allow_exec: self.allow_exec.then_some(true),
            checks: self.checks,
            check_interval: self.check_interval.map(HumanDuration),
            check_targets: self.check_targets,
            ..Given::default()
        };
        let places = [
            ("flag", flags),
            ("environment", Given::env(env)),
            ("file", file.unwrap_or_default()),
        ];
        let is_root = nix::unistd::geteuid().is_root();
        resolve(places, default_socket(env, is_root))
    }
}

/// Runs the agent until it is told to end.
pub async fn run(arguments: RunArgs, inherited: Inherited) -> Result<()> {
    let config = arguments.config.clone();
    let only_check = arguments.check;
    let settings = arguments.settings()?;
    if only_check {
        return lifecycle::check(&settings);
    }
    logging::start(settings.log_json);
    let mut ended = std::pin::pin!(signals::ending()?);
    let signals = Signals {
        hangups: signals::hangups()?,
        replacements: signals::replacements()?,
    };
    // Once it was replaced, the kernel would not tell any more.
    let program = std::env::current_exe()
        .map_err(|e| Error::caused_by(ErrorKind::Resource, "cannot find my own program", e))?;
    let mut running = tokio::select! {
        started = lifecycle::start(&settings, inherited) => started?,
        why = &mut ended => {
            log::info!("{why}: it had not begun");
            return Ok(());
        }
    };
    let live = live(&running, &settings, config.as_deref(), &program, signals);
    let next = tokio::select! {
        next = live => next?,
        why = &mut ended => Next::End(why),
    };
    let why = match next {
        Next::End(why) => why,
        Next::Replace => {
            tell_systemd(&reloading());
            let (listeners, state) = running.hand_over().await;
            // Whoever wants it to end means the next run, too.
            match ended.as_mut().now_or_never() {
                None => return Err(handover::replace(&program, &listeners, &state)),
                Some(why) => why,
            }
        }
    };
    tell_systemd(&[NotifyState::Stopping]);
    log::info!(
        "{why}: taking {} registrations away",
        running.agent().registry.counts().0
    );
    running.end().await;
    Ok(())
}

struct Signals {
    hangups: Signal,
    replacements: Signal,
}

/// What becomes of the agent.
enum Next {
    /// It ends, and why.
    End(&'static str),
    /// The program, which may be another by now, begins anew in this process.
    Replace,
}

/// Does what the file says, until another program is to do so, or it cannot begin.
async fn live(
    running: &Running,
    settings: &Settings,
    config: Option<&Path>,
    program: &Path,
    mut signals: Signals,
) -> Result<Next> {
    running.agent().jobs.apply(settings.plan.clone()).await?;
    // Whoever starts us learns from this line that we are there, and where.
    output::print(&format!("listening on {}\n", running.urls.join(" ")));
    log::info!(
        "discoverd {} on {}, in front of {}",
        env!("CARGO_PKG_VERSION"),
        running.urls.join(" "),
        running.agent().store
    );
    tell_systemd(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            Some(()) = signals.hangups.recv() => {
                tell_systemd(&reloading());
                reload(running, config).await;
                tell_systemd(&[NotifyState::Ready]);
            }
            Some(()) = signals.replacements.recv() => match handover::try_next(program).await {
                Ok(()) => {
                    log::info!("SIGUSR2: handing over to {}", program.display());
                    return Ok(Next::Replace);
                }
                Err(error) => log::error!("SIGUSR2: this run goes on, the next could not begin: {error:#}"),
            },
        }
    }
}

/// What the files say holds from now on; one that is wrong changes nothing.
async fn reload(running: &Running, config: Option<&Path>) {
    if !running.secrets().is_empty() {
        match running.secrets().read_again() {
            Ok(()) => log::info!("SIGHUP: read the certificate and the token again"),
            Err(error) => {
                log::error!("SIGHUP: the certificate and the token stay as they were: {error:#}");
            }
        }
    }
    let Some(path) = config else {
        log::info!("SIGHUP: there is no configuration file to read again");
        return;
    };
    let read = Given::file(path).and_then(|given| Plan::new(given.service, given.watch));
    let done = match read {
        Ok(plan) => running.agent().jobs.apply(plan).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => log::info!("SIGHUP: read {} again", path.display()),
        Err(error) => log::error!("SIGHUP: all stays as it was: {error:#}"),
    }
}

/// That it begins anew, and when it was heard that it should.
fn reloading() -> Vec<NotifyState<'static>> {
    let now = NotifyState::monotonic_usec_now().ok();
    std::iter::once(NotifyState::Reloading).chain(now).collect()
}

/// Does nothing where systemd did not start us.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd does not listen: {error:#}");
    }
}
