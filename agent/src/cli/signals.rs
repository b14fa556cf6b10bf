//! Handlers of the signals that stop, reload or replace the agent.

use discover_core::{Error, ErrorKind, Result};
use nix::sys::signal::{SigSet, Signal as SignalNumber};
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

/// The signals that the agent handles. Their default is to end the process.
fn handled() -> SigSet {
    [
        SignalNumber::SIGHUP,
        SignalNumber::SIGINT,
        SignalNumber::SIGTERM,
        SignalNumber::SIGUSR2,
    ]
    .into_iter()
    .collect()
}

/// Blocks the signals that the agent handles in this thread, and in the threads that it starts. A blocked signal waits
/// until a thread unblocks it, also while this process is replaced by the next one. Returns true if they were blocked
/// already, as in a process that replaces another one.
pub fn block() -> Result<bool> {
    let failed = |e| Error::caused_by(ErrorKind::Resource, "cannot block the signals", e);
    let before = SigSet::thread_get_mask().map_err(failed)?;
    handled().thread_block().map_err(failed)?;
    Ok(before.contains(SignalNumber::SIGTERM))
}

/// Unblocks the signals in this thread, which then receives the ones that wait.
pub fn unblock() -> Result<()> {
    let failed = |e| Error::caused_by(ErrorKind::Resource, "cannot unblock the signals", e);
    handled().thread_unblock().map_err(failed)
}
