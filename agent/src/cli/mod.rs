//! The command line. All commands but `run` are clients of any registry.

mod doctor;
mod env;
mod logging;
mod maintenance;
mod output;
mod query;
mod register;
mod registrations;
mod registry_args;
mod run;
mod signals;
mod status;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use discover_core::{Error, Result};

use crate::runtime::handover::Inherited;

use registry_args::RegistryArgs;

pub use run::RunArgs;

/// Exit status of all commands.
const EXIT_STATUS: &str = "\
Exit status:
  0  The command succeeded.
  1  The command failed, for example because the registry does not respond, or because no instance of the
     named service is registered.
  2  The command line is invalid.
`register` with a COMMAND exits with the status of that command.";

/// Service discovery agent, and commands that read and change a registry.
#[derive(Debug, Parser)]
#[command(name = "discoverd", version, about, propagate_version = true, after_help = EXIT_STATUS)]
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
    /// Print the registrations of an agent, also those that are critical or withheld
    Registrations {
        #[command(flatten)]
        registry: RegistryArgs,
        /// Service whose registrations to print [default: all services]
        service: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the state of an agent: its store, its registrations by state, and its maintenance modes
    Status {
        #[command(flatten)]
        registry: RegistryArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Unregister an instance, whichever program registered it, also one that an agent withholds
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
        /// Apply the mode although no such instance is registered with the agent yet
        #[arg(long, requires = "service")]
        force: bool,
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
            force,
        } => {
            let target = maintenance::MaintenanceTarget {
                service,
                id,
                all,
                force,
            };
            maintenance::maintenance(&registry, switch, &target)
                .await
                .map(|()| success)
        }
        Command::Registrations {
            registry,
            service,
            json,
        } => registrations::registrations(&registry, service.as_deref(), json)
            .await
            .map(|()| success),
        Command::Status { registry, json } => {
            status::status(&registry, json).await.map(|()| success)
        }
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
