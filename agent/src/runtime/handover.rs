//! From one run of the agent to the next, in the same process: the listeners, so that nobody is refused
//! meanwhile, and what is registered, so that nobody has to register again.
//!
//! The listeners go the way that systemd passes them, in `LISTEN_FDS`, and so may come from systemd as well.
//! The rest is in a file without a name, whose descriptor is in `DISCOVERD_HANDOVER`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::CommandFdExt;
use discover_core::{Error, ErrorKind, Result};
use listenfd::ListenFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::health::Looked;
use crate::net::listener::{Given, GivenSocket, Listener};
use crate::registry::handover::Registered;
use crate::registry::state::Mode;
use crate::sources::config_file::Begun;

/// CatalogCache the process that is meant, and the descriptor.
const VARIABLE: &str = "DISCOVERD_HANDOVER";
/// How long the next run is given to find out that it could begin.
const TRYING: Duration = Duration::from_secs(10);

/// What one run knows and the next must.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What is registered.
    pub registered: Vec<Registered>,
    /// How it is looked at.
    pub looked: Vec<Looked>,
    /// What of it the configuration file asked for.
    pub begun: Vec<Begun>,
    /// What operators hold back: the service, the id, and how.
    pub held: Vec<(Option<String>, Option<String>, Mode)>,
}

/// What this process was given.
#[derive(Default)]
pub struct Inherited {
    /// Where somebody listened before.
    pub listeners: Vec<Given>,
    /// What the run before knew.
    pub state: State,
}

impl Inherited {
    /// Looks what there is. To be called once, before there is a second thread: it clears the environment.
    pub fn take() -> Result<Inherited> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut given = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..given.len() {
            let name = names.next().unwrap_or_default();
            let unix = given.take_unix_listener(at).ok().flatten();
            let socket = match unix {
                Some(unix) => GivenSocket::Unix(unix),
                None => {
                    let tcp = given.take_tcp_listener(at).map_err(|e| {
                        let text = format!(
                            "the inherited descriptor {name:?} is neither a TCP nor a unix listener"
                        );
                        Error::caused_by(ErrorKind::InvalidArgument, text, e)
                    })?;
                    let Some(tcp) = tcp else { continue };
                    GivenSocket::Tcp(tcp)
                }
            };
            listeners.push(Given { name, socket });
        }
        let state = told().unwrap_or_else(|error| {
            // Owners who are not known put themselves back.
            log::warn!("what the run before knew cannot be read: {error:#}");
            State::default()
        });
        Ok(Inherited { listeners, state })
    }
}

/// What the run before has written, if there was one.
fn told() -> Result<State> {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    let own = std::process::id().to_string();
    let descriptor = named.split_once(':').filter(|(pid, _)| *pid == own);
    let Some(descriptor) = descriptor.and_then(|(_, fd)| fd.parse::<i32>().ok()) else {
        return Ok(State::default());
    };
    let cannot = |e| Error::caused_by(ErrorKind::Internal, "no file", e);
    // Opened anew, it is read from its beginning.
    let mut file = File::open(format!("/proc/self/fd/{descriptor}")).map_err(cannot)?;
    // Commands that are run later would inherit it.
    let _ = nix::unistd::close(descriptor);
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(cannot)?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::caused_by(ErrorKind::Internal, "it is written otherwise", e))
}

/// Whether the program that would run next could begin with the settings as they are now.
pub async fn try_next(program: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .arg("--check")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let shown = program.display();
    let failed = |e| Error::caused_by(ErrorKind::Resource, format!("cannot run {shown}"), e);
    let slow = |_| Error::new(ErrorKind::Timeout, format!("{shown} does not answer"));
    let ran = timeout(TRYING, command.output()).await;
    let ran = ran.map_err(slow)?.map_err(failed)?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(Error::invalid(
            String::from_utf8_lossy(&ran.stderr).trim().to_owned(),
        )),
    }
}

/// Runs the program in place of this one, with the same arguments. Only returns when that fails, and then
/// this process is of no use any more.
pub fn replace(program: &Path, listeners: &[Listener], state: &State) -> Error {
    match prepare(program, listeners, state) {
        Ok(mut command) => failed(command.exec()),
        Err(error) => failed(error),
    }
}

fn prepare(program: &Path, listeners: &[Listener], state: &State) -> std::io::Result<Command> {
    let mut descriptors = in_a_row(|| listeners.iter().map(Listener::descriptor).collect())?;
    let first = descriptors.first().map_or(0, AsRawFd::as_raw_fd);
    let names: Vec<String> = listeners.iter().map(Listener::name).collect();
    let mut file = File::from(memfd_create(c"discoverd", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(state)?)?;
    let (own, told) = (std::process::id(), file.as_raw_fd());
    descriptors.push(file.into());
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env("LISTEN_PID", own.to_string())
        .env("LISTEN_FDS", listeners.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env("LISTEN_FDS_FIRST_FD", first.to_string())
        .env(VARIABLE, format!("{own}:{told}"))
        .preserved_fds(descriptors);
    Ok(command)
}

/// Copies whose numbers follow each other, and that nobody else uses. The usual ones, from 3 on, are taken
/// by what other threads still read, write and close.
fn in_a_row(copy: impl Fn() -> std::io::Result<Vec<OwnedFd>>) -> std::io::Result<Vec<OwnedFd>> {
    // Each attempt fills gaps, so that the next one finds fewer; there is a limit to descriptors.
    let mut fillers = Vec::new();
    loop {
        let copies = copy()?;
        let follow = |pair: &[OwnedFd]| pair[0].as_raw_fd() + 1 == pair[1].as_raw_fd();
        if copies.windows(2).all(follow) {
            return Ok(copies);
        }
        fillers.push(copies);
    }
}

fn failed(cause: std::io::Error) -> Error {
    Error::caused_by(
        ErrorKind::Internal,
        "cannot hand over to the next run",
        cause,
    )
}

/// Where the agent does not listen any more, systemd is not to either: whoever came would wait for ever.
pub fn forget(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&state) {
        log::warn!("systemd does not let go of {name}: {error:#}");
    }
}

/// Leaves the listeners with systemd, where that started us: whoever comes after a crash waits for the next
/// run. Whether it did.
pub fn store(listeners: &[Listener]) -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    let stored = listeners.iter().map(|listener| {
        use std::os::fd::AsFd;
        let name = listener.name();
        let descriptor = listener.descriptor()?;
        let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
        sd_notify::notify_with_fds(&state, &[descriptor.as_fd()])
    });
    let stored: std::io::Result<()> = stored.collect();
    if let Err(error) = &stored {
        log::warn!("systemd does not keep the listeners: {error:#}");
    }
    stored.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_follow_each_other_and_close_nothing_of_others() {
        // Others come and go: there are gaps.
        let mut others: Vec<_> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        let mut nth = 0..20;
        others.retain(|_| nth.next().is_some_and(|n| n % 2 == 0));
        let copy = || {
            (0..3)
                .map(|_| Ok(File::open("/dev/zero")?.into()))
                .collect()
        };
        let row = in_a_row(copy).unwrap();
        let first = row[0].as_raw_fd();
        for (at, one) in (first..).zip(&row) {
            assert_eq!(one.as_raw_fd(), at);
        }
        for other in &mut others {
            assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "it is what it was");
        }
    }
}
