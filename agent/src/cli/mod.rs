//! The commands. All but `run` are clients like any other, of any registry.

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
use discover_core::{Client, Error, Result};

use crate::runtime::handover::Inherited;

pub use run::RunArgs;

/// Service discovery on this host: the agent, and the commands that look at a registry or change it.
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
        at: At,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the instances of a service
    Get {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        which: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Wait until there is at least this many
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        wait: usize,
        /// How long to wait
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        timeout: Duration,
    },
    /// Show a service as it changes, until interrupted
    Watch {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        which: Which,
        /// As lines of JSON
        #[arg(long)]
        json: bool,
    },
    /// Register an instance, for as long as a command runs, or until interrupted
    Register {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        what: register::What,
        /// The command; its exit status is ours
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Take an instance away that is registered with an agent
    Unregister {
        #[command(flatten)]
        at: At,
        /// The service
        service: String,
        /// The instance's id, mostly its address
        id: String,
    },
    /// Hold back what is registered with an agent, so that others do not see it, or let go of it
    Maintenance {
        #[command(flatten)]
        at: At,
        /// What becomes of them
        switch: maintenance::Switch,
        /// Only this service [default: all that is registered there]
        service: Option<String>,
        /// Only this instance of it
        id: Option<String>,
    },
    /// Look whether all is well: the settings, the store, the clock, a registration and back
    Doctor {
        #[command(flatten)]
        at: At,
        /// Register nothing
        #[arg(long)]
        quick: bool,
    },
    /// Show the settings that a program here would use, and where they come from
    Env {
        #[command(flatten)]
        at: At,
    },
    /// Write the completions of a shell to the standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual page to the standard output
    Man,
}

/// Which registry.
#[derive(Clone, Debug, clap::Args)]
pub struct At {
    /// The registry's URL
    #[arg(long, env = "DISCOVER_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
}

/// Which instances.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// The service
    service: String,
    /// Only those with this attribute
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Only those with this tag
    #[arg(long = "tag", short, value_name = "TAG")]
    tags: Vec<String>,
}

impl At {
    async fn client(&self) -> Result<Client> {
        // The client reads DISCOVER_URL itself, and names the variable in errors.
        let is_environment = |url: &&String| std::env::var("DISCOVER_URL").as_ref() == Ok(*url);
        match self.url.as_ref().filter(|url| !is_environment(url)) {
            Some(url) => Client::connect(url).await,
            None => Client::builder().connect().await,
        }
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before there is a second thread.
    let inherited = match &cli.command {
        Command::Run(_) => Inherited::take(),
        _ => Ok(Inherited::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => {
            inherited.and_then(|inherited| runtime.block_on(run(cli.command, inherited)))
        }
        Err(error) => Err(Error::caused_by(
            discover_core::ErrorKind::Resource,
            "cannot start the runtime",
            error,
        )),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "discoverd: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command, inherited: Inherited) -> Result<ExitCode> {
    let done = ExitCode::SUCCESS;
    match command {
        Command::Run(arguments) => run::run(*arguments, inherited).await.map(|()| done),
        Command::Services { at, json } => query::services(&at, json).await.map(|()| done),
        Command::Get {
            at,
            which,
            json,
            wait,
            timeout,
        } => query::get(&at, &which, json, wait, timeout)
            .await
            .map(|()| done),
        Command::Watch { at, which, json } => query::watch(&at, &which, json).await.map(|()| done),
        Command::Register { at, what, command } => register::register(&at, what, command).await,
        Command::Unregister { at, service, id } => register::unregister(&at, &service, &id)
            .await
            .map(|()| done),
        Command::Maintenance {
            at,
            switch,
            service,
            id,
        } => maintenance::maintenance(&at, switch, service.as_deref(), id.as_deref())
            .await
            .map(|()| done),
        Command::Doctor { at, quick } => doctor::doctor(&at, quick).await,
        Command::Env { at } => env::env(&at).map(|()| done),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "discoverd",
                &mut std::io::stdout(),
            );
            Ok(done)
        }
        Command::Man => man().map(|()| done),
    }
}

fn man() -> Result<()> {
    let mut page = Vec::new();
    let cannot = |e| {
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
        part.render(&mut page).map_err(cannot)?;
    }
    output::print(&String::from_utf8_lossy(&page));
    Ok(())
}

/// `name=value`
fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    crate::api::v1::query::duration(text).map_err(|error| error.report())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_make_sense_to_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_follows_two_dashes() {
        let text = "discoverd register web :8080 -a zone=eu -- sleep 1 --now";
        let cli = Cli::try_parse_from(text.split(' ')).unwrap();
        let Command::Register { command, .. } = cli.command else {
            panic!("another command")
        };
        assert_eq!(command, ["sleep", "1", "--now"]);
        assert!(Cli::try_parse_from(["discoverd", "get", "web", "-a", "zone"]).is_err());
    }
}
