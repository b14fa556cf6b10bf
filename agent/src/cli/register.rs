//! The commands `register` and `unregister`, for programs that do not use libdiscover.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use discover_core::{AgentApi, Error, ErrorKind, Lease, Registration, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::process::{Child, Command};

use crate::cli::{RegistryArgs, output, pair, signals, time};

/// Limit on the time to close the client, and on the time that the command gets to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit codes of a command that cannot be started, and of one that a signal ended (plus its number), as in a shell.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNAL_BASE: u8 = 128;

/// The instance to register.
#[derive(Clone, Debug, clap::Args)]
pub struct InstanceArgs {
    /// Name of the service
    service: String,
    /// Address of the instance, host:port, or :port for this host
    address: String,
    /// Attribute of the instance; may be repeated
    #[arg(long = "attribute", short, value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Tag of the instance; may be repeated
    #[arg(long = "tag", short, value_name = "TAG")]
    tags: Vec<String>,
    /// Time after which the registration expires if this program is killed
    #[arg(long, value_name = "TIME", value_parser = time)]
    ttl: Option<Duration>,
}

/// Registers an instance while a command runs. Without a command, registers it until a signal arrives. Returns the
/// exit code of the command: 127 if it is not found, 126 if it cannot be started, 128 + n if signal n ended it.
pub async fn register(
    registry: &RegistryArgs,
    instance: InstanceArgs,
    command: Vec<String>,
) -> Result<ExitCode> {
    let terminated = signals::termination()?;
    let registration = Registration::at(&instance.service, &instance.address)?
        .attributes(instance.attributes)?
        .tags(instance.tags)?;
    let registration = match instance.ttl {
        Some(ttl) => registration.ttl(ttl)?,
        None => registration,
    };
    let client = registry.client().await?;
    // The command starts once the registry is reachable, and before the instance is published.
    let mut child = match spawn(&command) {
        Ok(child) => child,
        Err(error) => {
            let program = command.first().map_or("", String::as_str);
            let code = start_failure_code(&error);
            let _ = writeln!(io::stderr(), "discoverd: cannot run {program}: {error}");
            client.close(STOP_TIMEOUT).await?;
            return Ok(code);
        }
    };
    let lease = match client.register(registration).await {
        Ok(lease) => lease,
        Err(error) => {
            stop(&mut child).await;
            return Err(error);
        }
    };
    output::print(&format!("registered {}\n", lease.registration().address()));
    let code = unregister_at_end(child, terminated, &lease).await;
    client.close(STOP_TIMEOUT).await?;
    code
}

/// Waits until the command ends or a signal arrives, and unregisters the instance. After a signal, the command ends
/// only once the instance is unregistered.
async fn unregister_at_end(
    mut child: Option<Child>,
    terminated: impl Future<Output = &'static str>,
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
            Ok(exit_code(status))
        }
        _ = terminated => {
            let released = lease.unregister().await;
            stop(&mut child).await;
            released.map(|()| ExitCode::SUCCESS)
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let by_signal = || Some(i32::from(SIGNAL_BASE) + status.signal()?);
    let code = status.code().or_else(by_signal);
    let code = code.and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(SIGNAL_BASE))
}

fn start_failure_code(error: &io::Error) -> ExitCode {
    ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    })
}

fn spawn(command: &[String]) -> io::Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(None);
    };
    let child = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Some(child))
}

/// Sends SIGTERM to the command, and SIGKILL if it does not end in time.
async fn stop(child: &mut Option<Child>) {
    let Some(child) = child else {
        return;
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        // The command may have ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(STOP_TIMEOUT, child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}

/// Unregisters an instance of any owner. Its owner receives the error `replaced` and does not register again. An agent
/// removes its own registrations, also those that it withholds; other registrations are replaced by equal ones, which are
/// then unregistered.
///
/// # Errors
///
/// Fails with [`ErrorKind::NotFound`] if no such instance is registered.
pub async fn unregister(registry: &RegistryArgs, service: &str, id: &str) -> Result<()> {
    let client = registry.client().await?;
    // Validates the name, which becomes a part of a path.
    let set = client.services(service)?;
    if let Some(agent) = registry.agent()?
        && remove_from_agent(&agent, service, id).await?
    {
        return client.close(STOP_TIMEOUT).await;
    }
    let online = set.wait(0, STOP_TIMEOUT).await?;
    let not_found = || {
        Error::new(
            ErrorKind::NotFound,
            format!("no instance {id:?} of {service} is registered"),
        )
    };
    let found = online.iter().find(|i| i.id() == id).ok_or_else(not_found)?;
    let attributes = found.attributes().clone();
    let mut registration = Registration::at(service, found.address())?
        .attributes(attributes)?
        .tags(found.tags().iter().cloned())?;
    if found.id() != found.address() {
        registration = registration.id(id)?;
    }
    client.register(registration).await?.unregister().await?;
    client.close(STOP_TIMEOUT).await
}

/// Removes a registration of the agent. Returns false if the agent has no such registration.
async fn remove_from_agent(agent: &AgentApi, service: &str, id: &str) -> Result<bool> {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    let path = format!("/v1/services/{service}/instances/{id}");
    match agent.request("DELETE", &path, None, STOP_TIMEOUT).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(what: &str, cause: std::io::Error) -> Error {
    Error::caused_by(ErrorKind::Resource, what, cause)
}
