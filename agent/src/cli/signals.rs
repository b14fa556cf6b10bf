//! When a program is asked to end.

use discover_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGINT or SIGTERM, and names it. From here on they do not end the process by themselves.
pub fn ending() -> Result<impl Future<Output = &'static str>> {
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::caused_by(ErrorKind::Resource, "cannot listen to signals", e))
}

/// Hears SIGHUP, which from here on does not end the process.
pub fn hangups() -> Result<Signal> {
    on(SignalKind::hangup())
}

/// Hears SIGUSR2, which from here on does not end the process.
pub fn replacements() -> Result<Signal> {
    on(SignalKind::user_defined2())
}
