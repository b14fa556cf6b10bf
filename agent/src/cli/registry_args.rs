//! The registry that a command uses.

use discover_core::{AgentApi, Client, DEFAULT_URL, Result, Url};

use crate::cli::output;
use crate::config::default_socket;

/// The registry to use.
#[derive(Clone, Debug, clap::Args)]
pub struct RegistryArgs {
    /// URL of the registry [default: the agent on the default socket of this user if one runs, else local://]
    #[arg(long, env = "DISCOVER_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
}

/// Where the URL of the registry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlOrigin {
    /// The option `--url`.
    Flag,
    /// `DISCOVER_URL`.
    Environment,
    /// The agent that listens on the default socket.
    RunningAgent,
    /// The default of the library.
    Default,
}

impl UrlOrigin {
    /// Returns the name for people.
    pub fn name(self) -> &'static str {
        match self {
            UrlOrigin::Flag => "flag",
            UrlOrigin::Environment => "environment",
            UrlOrigin::RunningAgent => "running agent",
            UrlOrigin::Default => "default",
        }
    }
}

impl RegistryArgs {
    /// Returns the URL of the registry: the given one, else that of the agent that runs on this host, else the default
    /// of the library.
    pub fn resolve(&self) -> (String, UrlOrigin) {
        let environment = std::env::var("DISCOVER_URL");
        match (&self.url, environment) {
            (Some(given), Ok(set)) if *given == set && !set.is_empty() => {
                (set, UrlOrigin::Environment)
            }
            (Some(given), _) if !given.is_empty() => (given.clone(), UrlOrigin::Flag),
            _ => match running_agent() {
                Some(url) => (url, UrlOrigin::RunningAgent),
                None => (DEFAULT_URL.to_owned(), UrlOrigin::Default),
            },
        }
    }

    /// Connects to the registry. A registry that was not named is stated on the standard error output.
    pub async fn client(&self) -> Result<Client> {
        let (url, origin) = self.resolve();
        state_choice(&url, origin);
        match origin {
            // The client reads DISCOVER_URL itself, so that its errors name the variable.
            UrlOrigin::Environment => Client::builder().connect().await,
            _ => Client::connect(&url).await,
        }
    }

    /// Returns the API of the agent that the registry's URL names, or `None` if the registry is not an agent.
    pub fn agent(&self) -> Result<Option<AgentApi>> {
        let (url, _) = self.resolve();
        let is_agent = Url::parse(&url)?.scheme().starts_with("discoverd");
        is_agent.then(|| AgentApi::open(&url)).transpose()
    }

    /// Returns the API of the agent that the registry's URL names. If the registry is not an agent, returns that of the
    /// agent on the default socket, or else on the default address, and states it on the standard error output.
    pub fn agent_or_default(&self) -> Result<AgentApi> {
        let (url, origin) = self.resolve();
        if Url::parse(&url)?.scheme().starts_with("discoverd") {
            state_choice(&url, origin);
            return AgentApi::open(&url);
        }
        let (url, origin) = match running_agent() {
            Some(url) => (url, UrlOrigin::RunningAgent),
            None => ("discoverd://".to_owned(), UrlOrigin::Default),
        };
        state_choice(&url, origin);
        AgentApi::open(&url)
    }
}

/// States a registry that was not named on the standard error output.
fn state_choice(url: &str, origin: UrlOrigin) {
    if matches!(origin, UrlOrigin::RunningAgent | UrlOrigin::Default) {
        let text = "set DISCOVER_URL or --url to use another registry";
        output::note(&format!("using {url} ({}); {text}", origin.name()));
    }
}

/// Returns the URL of the agent that listens on the default socket, or `None` if none does.
fn running_agent() -> Option<String> {
    let env = |name: &str| std::env::var(name).ok();
    let socket = default_socket(env, nix::unistd::geteuid().is_root())?;
    let connected = std::os::unix::net::UnixStream::connect(&socket);
    connected.ok()?;
    Some(format!("discoverd+unix://{}", socket.display()))
}
