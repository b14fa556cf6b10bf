//! `run`: the agent.

use std::path::PathBuf;

use discover_core::Result;

use crate::app;
use crate::cli::notify::notify;
use crate::cli::{ending, logging, show};
use crate::settings::{Given, Settings, default_socket, resolve};

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
    /// Let whoever registers an instance have commands run to check it
    #[arg(long)]
    allow_exec: bool,
    /// Log as text or json
    #[arg(long, value_name = "FORM")]
    log: Option<String>,
    /// The most connections
    #[arg(long, value_name = "COUNT")]
    connections: Option<usize>,
    /// The most connections from one address, or of one user
    #[arg(long, value_name = "COUNT")]
    connections_of_one: Option<usize>,
    /// The most event streams
    #[arg(long, value_name = "COUNT")]
    streams: Option<usize>,
    /// The most services that are watched at a time
    #[arg(long, value_name = "COUNT")]
    services: Option<usize>,
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
            allow_exec: self.allow_exec.then_some(true),
            log: self.log,
            connections: self.connections,
            connections_of_one: self.connections_of_one,
            streams: self.streams,
            services: self.services,
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
pub async fn run(arguments: RunArgs) -> Result<()> {
    let settings = arguments.clone().settings()?;
    logging::start(settings.log_json);
    let ended = ending::ending()?;
    let mut hangups = ending::hangups()?;
    let mut running = app::start(&settings).await?;
    // Whoever starts us learns from this line that we are there, and where.
    show::print(&format!("listening on {}\n", running.urls.join(" ")));
    log::info!(
        "discoverd {} on {}, in front of {}",
        env!("CARGO_PKG_VERSION"),
        running.urls.join(" "),
        running.agent().store
    );
    notify("READY=1");
    let mut ended = std::pin::pin!(ended);
    let why = loop {
        tokio::select! {
            why = &mut ended => break why,
            _ = hangups.recv() => reload(&arguments, &mut running).await,
        }
    };
    notify("STOPPING=1");
    log::info!(
        "{why}: taking {} registrations away",
        running.agent().registry.counts().0
    );
    running.end().await;
    Ok(())
}

/// Reads the file again; one that makes no sense changes nothing.
async fn reload(arguments: &RunArgs, running: &mut app::Running) {
    let done = match arguments.clone().settings() {
        Ok(settings) => running.turn_to(&settings).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => log::info!("SIGHUP: registering and watching what the configuration says now"),
        Err(error) => log::error!("SIGHUP: all stays as it was: {error}"),
    }
}
