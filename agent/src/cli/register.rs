//! `register` and `unregister`: on behalf of programs that know nothing of us.

use std::process::ExitCode;
use std::time::Duration;

use discover_core::{Error, ErrorKind, Lease, Registration, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::cli::{At, output, pair, signals, time};

/// How long closing may take.
const ENDING: Duration = Duration::from_secs(5);

/// What to register.
#[derive(Clone, Debug, clap::Args)]
pub struct What {
    /// The service
    service: String,
    /// host:port, or :port on this host
    address: String,
    /// An attribute
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// A tag
    #[arg(long = "tag", short, value_name = "TAG")]
    tags: Vec<String>,
    /// How long it outlives us, if we are killed
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,
}

/// Registers while the command runs; without one, until interrupted.
pub async fn register(at: &At, what: What, command: Vec<String>) -> Result<ExitCode> {
    let ended = signals::ending()?;
    let registration = Registration::at(&what.service, &what.address)?
        .attributes(what.attributes)?
        .tags(what.tags)?;
    let registration = match what.ttl {
        Some(ttl) => registration.ttl(ttl)?,
        None => registration,
    };
    let client = at.client().await?;
    // Started after we know that the registry is there, and before others are told of it.
    let mut child = spawn(&command)?;
    let lease = match client.register(registration).await {
        Ok(lease) => lease,
        Err(error) => {
            stop(&mut child).await;
            return Err(error);
        }
    };
    output::print(&format!("registered {}\n", lease.registration().address()));
    let code = follow(child, ended, &lease).await;
    client.close(ENDING).await?;
    code
}

/// Waits for the end of the command, or of us; the registration goes before the command does.
async fn follow(
    mut child: Option<Child>,
    ended: impl Future<Output = &'static str>,
    lease: &Lease,
) -> Result<ExitCode> {
    let exit = async {
        match &mut child {
            Some(child) => child.wait().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        status = exit => {
            lease.unregister().await?;
            let status = status.map_err(|e| failed("cannot wait for the command", e))?;
            // One that a signal ended has no code; shells say 128 and more.
            Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128)))
        }
        _ = ended => {
            let released = lease.unregister().await;
            stop(&mut child).await;
            released.map(|()| ExitCode::SUCCESS)
        }
    }
}

fn spawn(command: &[String]) -> Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(None);
    };
    let child = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(&format!("cannot run {program}"), e))?;
    Ok(Some(child))
}

/// Asks the command to end, and waits for it a while.
async fn stop(child: &mut Option<Child>) {
    let Some(child) = child else {
        return;
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Takes an instance away, whoever registered it: by taking it over as it is, and ending that. The one
/// before is told, and does not come back.
pub async fn unregister(at: &At, service: &str, id: &str) -> Result<()> {
    let client = at.client().await?;
    let set = client.services(service)?;
    let online = set.wait(0, ENDING).await?;
    let none = || {
        Error::new(
            ErrorKind::NotFound,
            format!("{service} has no instance {id:?} online"),
        )
    };
    let there = online.iter().find(|i| i.id() == id).ok_or_else(none)?;
    let attributes = there.attributes().clone();
    let mut registration = Registration::at(service, there.address())?
        .attributes(attributes)?
        .tags(there.tags().iter().cloned())?;
    if there.id() != there.address() {
        registration = registration.id(id)?;
    }
    client.register(registration).await?.unregister().await?;
    client.close(ENDING).await
}

fn failed(what: &str, cause: std::io::Error) -> Error {
    Error::caused_by(ErrorKind::Resource, what, cause)
}
