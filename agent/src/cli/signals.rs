//! Handlers of the signals that stop, reload or replace the agent.

use discover_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Installs handlers of SIGINT and SIGTERM, which then no longer end the process by themselves. The future resolves
/// with the name of the first signal.
///
/// # Errors
///
/// Fails with [`ErrorKind::Resource`] if a handler cannot be installed, as the other functions do.
pub fn termination() -> Result<impl Future<Output = &'static str>> {
    let mut interrupt = install(SignalKind::interrupt())?;
    let mut terminate = install(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

fn install(kind: SignalKind) -> Result<Signal> {
    signal(kind)
        .map_err(|e| Error::caused_by(ErrorKind::Resource, "cannot install a signal handler", e))
}

/// Installs a handler of SIGHUP, which then no longer ends the process.
pub fn hangups() -> Result<Signal> {
    install(SignalKind::hangup())
}

/// Installs a handler of SIGUSR2, which then no longer ends the process.
pub fn replacements() -> Result<Signal> {
    install(SignalKind::user_defined2())
}
