//! Hand-over to the next process of the agent, which replaces this one under the same process id: listening sockets
//! stay open, and the components' states pass on.
//!
//! Sockets are passed as systemd passes them, in `LISTEN_FDS`, so they may also come from systemd. The state is in
//! an anonymous file, whose descriptor is in `DISCOVERD_HANDOVER`.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execve;
use sd_notify::NotifyState;
use tokio::time::timeout;

use crate::net::inherited::{InheritedKind, InheritedSocket, NamedSocket};
use crate::net::listener::Listener;
use crate::runtime::handover_state::HandOverState;

/// Environment variable with the process id of the receiver and the descriptor of the state, separated by a colon.
const STATE_VARIABLE: &str = "DISCOVERD_HANDOVER";
/// Limit on the time that the next program takes to validate its configuration.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets and the state that this process inherited, from systemd or from the previous process.
pub struct Inherited {
    /// Listening sockets.
    pub sockets: Vec<InheritedSocket>,
    /// The states of the components, or why they cannot be read.
    pub state: Result<HandOverState>,
}

impl Default for Inherited {
    /// Nothing was inherited.
    fn default() -> Inherited {
        Inherited {
            sockets: Vec::new(),
            state: Ok(HandOverState::default()),
        }
    }
}

impl Inherited {
    /// Takes what this process inherited. Changes the environment, so it must be called before the process starts
    /// a second thread and the log.
    ///
    /// # Errors
    ///
    /// Fails if an inherited descriptor is neither a TCP nor a Unix listener.
    pub fn take() -> Result<Inherited> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            let unix = descriptors.take_unix_listener(index).ok().flatten();
            let kind = match unix {
                Some(unix) => InheritedKind::Unix(unix),
                None => {
                    let tcp = descriptors.take_tcp_listener(index).map_err(|e| {
                        let text = format!(
                            "the inherited descriptor {name:?} is neither a TCP nor a unix listener"
                        );
                        Error::caused_by(ErrorKind::InvalidArgument, text, e)
                    })?;
                    let Some(tcp) = tcp else { continue };
                    InheritedKind::Tcp(tcp)
                }
            };
            sockets.push(InheritedSocket { name, kind });
        }
        Ok(Inherited {
            sockets,
            state: read_state(),
        })
    }
}

/// Reads the state of the previous process. Empty if there was none.
fn read_state() -> Result<HandOverState> {
    let variable = std::env::var(STATE_VARIABLE).unwrap_or_default();
    let own_id = std::process::id().to_string();
    let descriptor = variable.split_once(':').filter(|(id, _)| *id == own_id);
    let Some(descriptor) = descriptor.and_then(|(_, fd)| fd.parse::<i32>().ok()) else {
        return Ok(HandOverState::default());
    };
    let failed = |e| Error::caused_by(ErrorKind::Internal, "hand-over state: cannot read", e);
    // A newly opened descriptor reads from the beginning of the file.
    let mut file = File::open(format!("/proc/self/fd/{descriptor}")).map_err(failed)?;
    // Commands that the agent runs would inherit the descriptor.
    let _ = nix::unistd::close(descriptor);
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed)?;
    HandOverState::parse(&text)
}

/// Runs the next program with `--check`, which validates the configuration as it is now.
///
/// # Errors
///
/// Fails with the output of the program if it could not start with this configuration.
pub async fn check_next(program: &Path) -> Result<()> {
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
    let timed_out = |_| {
        let text = format!("{shown} --check did not finish within {CHECK_TIMEOUT:?}");
        Error::new(ErrorKind::Timeout, text)
    };
    let ran = timeout(CHECK_TIMEOUT, command.output()).await;
    let ran = ran.map_err(timed_out)?.map_err(failed)?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(Error::invalid(
            String::from_utf8_lossy(&ran.stderr).trim().to_owned(),
        )),
    }
}

/// Returns true if this process was started by [`check_next`]: its parent has the same arguments without `--check`.
pub fn is_check_of_running_agent() -> bool {
    let parent = std::os::unix::process::parent_id();
    let parent = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    let parent = parent
        .strip_suffix(b"\0")
        .unwrap_or(&parent)
        .split(|b| *b == 0);
    let expected = parent.skip(1).map(<[u8]>::to_vec);
    let expected = expected.chain([b"--check".to_vec()]);
    expected.eq(std::env::args_os()
        .skip(1)
        .map(|argument| argument.as_encoded_bytes().to_vec()))
}

/// Replaces this process by the program, with the same arguments. Returns only if that fails; then this process
/// must end.
pub fn replace(program: &Path, sockets: &[NamedSocket], state: &HandOverState) -> Error {
    let replaced = prepare(program, sockets, state).and_then(NextProcess::exec);
    let text = "cannot hand over to the next process";
    match replaced {
        Ok(never) => match never {},
        Err(cause) => Error::caused_by(ErrorKind::Internal, text, cause),
    }
}

/// What the next process gets.
struct NextProcess {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Descriptors that stay open.
    descriptors: Vec<OwnedFd>,
}

impl NextProcess {
    /// Replaces this process. Blocked signals stay blocked and wait for the next process; `std::process::Command` would
    /// unblock them, and they would end it before it handles them.
    fn exec(self) -> std::io::Result<Infallible> {
        for descriptor in &self.descriptors {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(execve(&self.program, &self.arguments, &self.environment)?)
    }
}

fn prepare(
    program: &Path,
    sockets: &[NamedSocket],
    state: &HandOverState,
) -> std::io::Result<NextProcess> {
    let duplicate = || {
        let copies = sockets.iter().map(|socket| socket.descriptor.try_clone());
        copies.collect()
    };
    let mut descriptors = consecutive(duplicate)?;
    let first = descriptors.first().map_or(0, AsRawFd::as_raw_fd);
    let names: Vec<&str> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    let mut file = File::from(memfd_create(c"discoverd", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(state)?)?;
    let (own_id, state_descriptor) = (std::process::id(), file.as_raw_fd());
    descriptors.push(file.into());
    let added = [
        ("LISTEN_PID", own_id.to_string()),
        ("LISTEN_FDS", sockets.len().to_string()),
        ("LISTEN_FDNAMES", names.join(":")),
        ("LISTEN_FDS_FIRST_FD", first.to_string()),
        (STATE_VARIABLE, format!("{own_id}:{state_descriptor}")),
    ];
    let inherited = std::env::vars_os().filter(|(name, _)| added.iter().all(|(n, _)| name != n));
    let added_variables = added
        .iter()
        .map(|(name, value)| ((*name).into(), value.into()));
    let variable = |(name, value): (OsString, OsString)| {
        c_text([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    let program = program.as_os_str();
    let arguments = std::iter::once(program.to_owned()).chain(std::env::args_os().skip(1));
    Ok(NextProcess {
        program: c_text(program.as_bytes())?,
        arguments: arguments
            .map(|text| c_text(text.as_bytes()))
            .collect::<std::io::Result<_>>()?,
        environment: inherited
            .chain(added_variables)
            .map(variable)
            .collect::<std::io::Result<_>>()?,
        descriptors,
    })
}

fn c_text(text: impl Into<Vec<u8>>) -> std::io::Result<CString> {
    Ok(CString::new(text)?)
}

/// Repeats `duplicate` until the descriptors that it returns have consecutive numbers. The usual numbers, from 3
/// on, belong to what other threads still read, write and close.
fn consecutive(
    duplicate: impl Fn() -> std::io::Result<Vec<OwnedFd>>,
) -> std::io::Result<Vec<OwnedFd>> {
    // Each attempt fills gaps. The limit of descriptors bounds the number of attempts.
    let mut fillers = Vec::new();
    loop {
        let copies = duplicate()?;
        let follow = |pair: &[OwnedFd]| pair[0].as_raw_fd() + 1 == pair[1].as_raw_fd();
        if copies.windows(2).all(follow) {
            return Ok(copies);
        }
        fillers.push(copies);
    }
}

/// Removes a socket from the file descriptor store of systemd. The agent does not listen on it any more, so clients
/// that connect would wait forever.
pub fn remove_from_systemd(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&state) {
        tracing::warn!(socket = name, %error, "cannot remove a socket from the file descriptor store of systemd");
    }
}

/// Stores the listeners in the file descriptor store of systemd, so that connections wait for the next process
/// after a crash. Returns false if systemd did not start this process, or if storing failed.
pub fn store_in_systemd(listeners: &[Listener]) -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    let stored = listeners.iter().map(|listener| {
        let socket = listener.named_socket()?;
        let state = [NotifyState::FdStore, NotifyState::FdName(&socket.name)];
        sd_notify::notify_with_fds(&state, &[socket.descriptor.as_fd()])
    });
    let stored: std::io::Result<()> = stored.collect();
    if let Err(error) = &stored {
        tracing::warn!(%error, "cannot put the listeners into the file descriptor store of systemd");
    }
    stored.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_have_consecutive_numbers_and_leave_other_descriptors_open() {
        // Every second descriptor is closed, so there are gaps.
        let mut others: Vec<_> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        let mut nth = 0..20;
        others.retain(|_| nth.next().is_some_and(|n| n % 2 == 0));
        let copy = || {
            (0..3)
                .map(|_| Ok(File::open("/dev/zero")?.into()))
                .collect()
        };
        let row = consecutive(copy).unwrap();
        let first = row[0].as_raw_fd();
        for (at, one) in (first..).zip(&row) {
            assert_eq!(one.as_raw_fd(), at);
        }
        for other in &mut others {
            assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "still open");
        }
    }
}
