//! The command line. All commands but `run` are clients of any registry.

mod doctor;
mod env;
mod logging;
mod maintenance;
mod output;
mod query;
mod register;
mod run;
mod signals;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use discover_core::{Client, DEFAULT_URL, Error, Result};

use crate::config::default_socket;
use crate::runtime::handover::Inherited;

pub use run::RunArgs;

/// Service discovery agent, and commands that read and change a registry.
#[derive(Debug, Parser)]
#[command(name = "discoverd", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent
    Run(Box<RunArgs>),
    /// List the names of all services
    Services {
        #[command(flatten)]
        registry: RegistryArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the instances of a service
    Get {
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        selector: InstanceSelector,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Minimum number of instances to wait for
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        wait: usize,
        /// Limit on the time to wait
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        timeout: Duration,
    },
    /// Print the events of a service until interrupted
    Watch {
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        selector: InstanceSelector,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Register an instance while a command runs, or until interrupted
    Register {
        #[command(flatten)]
        registry: RegistryArgs,
        #[command(flatten)]
        instance: register::InstanceArgs,
        /// Command to run; its exit status becomes that of discoverd
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Unregister an instance, whichever program registered it
    Unregister {
        #[command(flatten)]
        registry: RegistryArgs,
        /// Name of the service
        service: String,
        /// Id of the instance; by default its address
        id: String,
    },
    /// Switch maintenance mode of instances that are registered with an agent
    Maintenance {
        #[command(flatten)]
        registry: RegistryArgs,
        /// The mode
        switch: maintenance::MaintenanceSwitch,
        /// Service to which the mode applies
        service: Option<String>,
        /// Id of the instance to which the mode applies [default: all instances of the service]
        id: Option<String>,
        /// Apply the mode to all registrations of the agent; `off` does so if no service is named
        #[arg(long, conflicts_with = "service")]
        all: bool,
    },
    /// Check the settings, the clock, the store, and a test registration
    Doctor {
        #[command(flatten)]
        registry: RegistryArgs,
        /// Skip the test registration
        #[arg(long)]
        quick: bool,
    },
    /// Print the settings that a program on this host uses, and their origin
    Env {
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// The registry to use.
#[derive(Clone, Debug, clap::Args)]
pub struct RegistryArgs {
    /// URL of the registry [default: the agent on the default socket of this user if one runs, else local://]
    #[arg(long, env = "DISCOVER_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
}

/// The instances to print.
#[derive(Clone, Debug, clap::Args)]
struct InstanceSelector {
    /// Name of the service
    service: String,
    /// Attribute that the instances must have; may be repeated
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Tag that the instances must have; may be repeated
    #[arg(long = "tag", short, value_name = "TAG")]
    tags: Vec<String>,
}

/// Where the URL of the registry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UrlOrigin {
    Flag,
    /// `DISCOVER_URL`.
    Environment,
    /// The agent that listens on the default socket.
    RunningAgent,
    Default,
}

impl UrlOrigin {
    fn name(self) -> &'static str {
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
    fn resolve(&self) -> (String, UrlOrigin) {
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
    async fn client(&self) -> Result<Client> {
        let (url, origin) = self.resolve();
        if matches!(origin, UrlOrigin::RunningAgent | UrlOrigin::Default) {
            let text = "set DISCOVER_URL or --url to use another registry";
            let _ = writeln!(
                std::io::stderr(),
                "discoverd: using {url} ({}); {text}",
                origin.name()
            );
        }
        match origin {
            // The client reads DISCOVER_URL itself, so that its errors name the variable.
            UrlOrigin::Environment => Client::builder().connect().await,
            _ => Client::connect(&url).await,
        }
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

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Only the thread that runs the agent receives signals, so that it can block them before it is replaced.
    let is_blocked = match &cli.command {
        Command::Run(arguments) if !arguments.is_check() => signals::block(),
        _ => Ok(false),
    };
    // Changes the environment, which requires that there is only one thread.
    let inherited = match &cli.command {
        Command::Run(_) => Inherited::take(),
        _ => Ok(Inherited::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => is_blocked.and_then(|is_blocked| {
            if !is_blocked {
                signals::unblock()?;
            }
            runtime.block_on(run(cli.command, inherited?))
        }),
        Err(error) => Err(Error::caused_by(
            discover_core::ErrorKind::Resource,
            "cannot start the runtime",
            error,
        )),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "discoverd: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command, inherited: Inherited) -> Result<ExitCode> {
    let success = ExitCode::SUCCESS;
    match command {
        Command::Run(arguments) => run::run(*arguments, inherited).await.map(|()| success),
        Command::Services { registry, json } => {
            query::services(&registry, json).await.map(|()| success)
        }
        Command::Get {
            registry,
            selector,
            json,
            wait,
            timeout,
        } => query::get(&registry, &selector, json, wait, timeout)
            .await
            .map(|()| success),
        Command::Watch {
            registry,
            selector,
            json,
        } => query::watch(&registry, &selector, json)
            .await
            .map(|()| success),
        Command::Register {
            registry,
            instance,
            command,
        } => register::register(&registry, instance, command).await,
        Command::Unregister {
            registry,
            service,
            id,
        } => register::unregister(&registry, &service, &id)
            .await
            .map(|()| success),
        Command::Maintenance {
            registry,
            switch,
            service,
            id,
            all,
        } => maintenance::maintenance(&registry, switch, service.as_deref(), id.as_deref(), all)
            .await
            .map(|()| success),
        Command::Doctor { registry, quick } => doctor::doctor(&registry, quick).await,
        Command::Env { registry } => env::env(&registry).map(|()| success),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "discoverd",
                &mut std::io::stdout(),
            );
            Ok(success)
        }
        Command::Man => man().map(|()| success),
    }
}

fn man() -> Result<()> {
    let mut page = Vec::new();
    let failed = |e| {
        let text = "cannot write the manual page";
        Error::caused_by(discover_core::ErrorKind::Resource, text, e)
    };
    let command = Cli::command();
    let pages = command.get_subcommands().map(|part| {
        let title = format!("discoverd-{}", part.get_name());
        clap_mangen::Man::new(part.clone()).title(title)
    });
    let first = clap_mangen::Man::new(command.clone());
    for part in std::iter::once(first).chain(pages) {
        part.render(&mut page).map_err(failed)?;
    }
    output::print(&String::from_utf8_lossy(&page));
    Ok(())
}

/// Parses `NAME=VALUE`.
fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("an attribute must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    crate::api::v1::query::duration(text).map_err(|error| error.report())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_to_run_follows_two_dashes() {
        let text = "discoverd register web :8080 -a zone=eu -- sleep 1 --now";
        let cli = Cli::try_parse_from(text.split(' ')).unwrap();
        let Command::Register { command, .. } = cli.command else {
            panic!("not register")
        };
        assert_eq!(command, ["sleep", "1", "--now"]);
        assert!(Cli::try_parse_from(["discoverd", "get", "web", "-a", "zone"]).is_err());
    }
}
