//! Runs commands with limits on their time, their output and the processes that they leave behind.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// Maximum number of bytes of the output that are kept, from its beginning.
const MAX_OUTPUT_BYTES: usize = 4096;
/// Time to read the rest of the output after the command has exited.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Variables of the agent's environment that commands inherit; all others may contain secrets.
const INHERITED_VARIABLES: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// Prefix of further inherited variables.
const LOCALE_PREFIX: &str = "LC_";
/// Variable with a text that is unique to one run of a command, by which the processes that it started are found.
const RUN_VARIABLE: &str = "DISCOVERD_RUN";
/// How often the processes of a command are searched for. A process may fork while it is searched for.
const KILL_ROUNDS: usize = 16;

/// Program and arguments of a command. Read from a text that is split at single spaces, or from a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCommandLine")]
pub struct CommandLine(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCommandLine {
    Text(String),
    List(Vec<String>),
}

impl TryFrom<RawCommandLine> for CommandLine {
    type Error = String;

    fn try_from(raw: RawCommandLine) -> std::result::Result<CommandLine, String> {
        let words: Vec<String> = match raw {
            RawCommandLine::Text(text) => text.split(' ').map(str::to_owned).collect(),
            RawCommandLine::List(list) => list,
        };
        match words.first() {
            Some(program) if !program.is_empty() => Ok(CommandLine(words)),
            _ => Err("the command is empty; specify a program".to_owned()),
        }
    }
}

impl CommandLine {
    /// Returns the words joined by spaces, for logs.
    pub fn text(&self) -> String {
        self.0.join(" ")
    }

    fn command(&self) -> Command {
        let (program, arguments) = match self.0.split_first() {
            Some((program, arguments)) => (program.as_str(), arguments),
            None => ("", [].as_slice()),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }
}

/// Result of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// Exit status. `None` if the command was killed at its timeout.
    pub status: Option<ExitStatus>,
    /// Standard output and standard error, up to a limit.
    pub output: String,
}

/// Runs a command in a process group of its own, with a clean environment: [`INHERITED_VARIABLES`], those of the locale,
/// `env` and [`RUN_VARIABLE`]. The group, and all processes that have this variable of the run, are killed at the
/// timeout, and when the returned future is dropped.
///
/// # Errors
///
/// Fails with [`ErrorKind::Resource`] if the command cannot be started.
pub async fn run(
    command_line: &CommandLine,
    env: &[(String, String)],
    input: Vec<u8>,
    limit: Duration,
) -> Result<CommandOutput> {
    let failed = |e| {
        Error::caused_by(
            ErrorKind::Resource,
            format!("cannot start {}", command_line.text()),
            e,
        )
    };
    let run = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
    let mut child = command_line
        .command()
        .env_clear()
        .envs(inherited(std::env::vars_os()))
        .env(RUN_VARIABLE, &run)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let processes = CommandProcesses::new(&child, &run);
    let output = Mutex::<Vec<u8>>::default();
    let write = write_input(child.stdin.take(), input);
    let out = read_output(child.stdout.take(), &output);
    let err = read_output(child.stderr.take(), &output);
    let mut pipes = std::pin::pin!(async { tokio::join!(write, out, err) });
    let mut pipes_closed = false;
    let exited = async {
        tokio::select! {
            biased;
            status = child.wait() => status,
            _ = &mut pipes => {
                pipes_closed = true;
                child.wait().await
            }
        }
    };
    let status = match timeout(limit, exited).await {
        Ok(status) => {
            processes.disarm();
            // Processes that the command leaves behind may keep its output open.
            if !pipes_closed {
                let _ = timeout(OUTPUT_DRAIN_TIMEOUT, pipes).await;
            }
            Some(status.map_err(failed)?)
        }
        Err(_) => {
            // Reads the environment of each process of the host.
            let _ = tokio::task::spawn_blocking(move || drop(processes)).await;
            let _ = child.wait().await;
            None
        }
    };
    let output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let output = String::from_utf8_lossy(&output).trim_end().to_owned();
    Ok(CommandOutput { status, output })
}

/// Returns the variables that commands inherit.
fn inherited(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.filter(|(name, _)| {
        let name = name.to_str().unwrap_or_default();
        INHERITED_VARIABLES.contains(&name) || name.starts_with(LOCALE_PREFIX)
    })
}

async fn write_input(pipe: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut pipe) = pipe {
        // The command need not read its input.
        let _ = pipe.write_all(&input).await;
    }
}

/// Reads a pipe to its end and drops what exceeds the limit.
async fn read_output(pipe: Option<impl AsyncRead + Unpin>, output: &Mutex<Vec<u8>>) {
    let Some(mut pipe) = pipe else {
        return;
    };
    let mut buffer = [0; 1024];
    while let Ok(count) = pipe.read(&mut buffer).await
        && count > 0
    {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT_BYTES.saturating_sub(output.len()).min(count);
        output.extend(buffer.iter().take(room));
    }
}

/// The processes of a command: its process group, and the processes that left it. Killed on drop.
struct CommandProcesses {
    group: Option<Pid>,
    /// The entry of the environment that only these processes have.
    mark: Vec<u8>,
}

impl CommandProcesses {
    fn new(child: &Child, run: &str) -> CommandProcesses {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        CommandProcesses {
            group: pid.map(Pid::from_raw),
            mark: format!("{RUN_VARIABLE}={run}").into_bytes(),
        }
    }

    /// Keeps the processes from being killed: the command has exited, and its id may be reused.
    fn disarm(mut self) {
        self.group = None;
    }

    /// Returns the processes that have the mark in their environment.
    fn find(&self) -> Vec<Pid> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_marked = |pid: &i32| {
            // Fails for processes of other users, which the agent may not kill either.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|b| *b == 0)
                .any(|entry| entry == self.mark)
        };
        pids.filter(is_marked).map(Pid::from_raw).collect()
    }
}

impl Drop for CommandProcesses {
    fn drop(&mut self) {
        let Some(group) = self.group else {
            return;
        };
        // The group may have exited.
        let _ = killpg(group, Signal::SIGKILL);
        for _ in 0..KILL_ROUNDS {
            let found = self.find();
            if found.is_empty() {
                return;
            }
            for pid in found {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn command_line(text: &str) -> CommandLine {
        serde_json::from_str(text).unwrap()
    }

    async fn sh(script: &str, limit: Duration) -> CommandOutput {
        let command_line = CommandLine(["sh", "-c", script].map(str::to_owned).to_vec());
        run(&command_line, &[], Vec::new(), limit).await.unwrap()
    }

    const TEST_TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_line_is_a_text_split_at_spaces_or_a_list() {
        assert_eq!(command_line("\"a b  c\"").0, ["a", "b", "", "c"]);
        assert_eq!(command_line("[\"a b\", \"c\"]").0, ["a b", "c"]);
        for empty in ["\"\"", "[]", "[\"\"]"] {
            assert!(
                serde_json::from_str::<CommandLine>(empty).is_err(),
                "{empty}"
            );
        }
    }

    #[tokio::test]
    async fn output_is_truncated_and_the_rest_does_not_block_the_command() {
        let ran = sh(
            "echo first; head -c 1000000 /dev/zero | tr '\\0' x; exit 3",
            TEST_TIMEOUT,
        )
        .await;
        assert_eq!(ran.status.and_then(|s| s.code()), Some(3));
        assert!(ran.output.starts_with("first\n"));
        assert_eq!(ran.output.len(), MAX_OUTPUT_BYTES);
    }

    #[tokio::test]
    async fn a_command_is_killed_with_its_children_at_its_timeout() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!(
            "trap '' TERM; sleep 987 & echo $! > {}; wait",
            pid.display()
        );
        // Long enough for a shell to start on a slow machine.
        let ran = sh(&script, Duration::from_secs(3)).await;
        assert!(ran.status.is_none());
        let pid = std::fs::read_to_string(pid).unwrap().trim().to_owned();
        wait_for_end(&pid).await;
    }

    async fn wait_for_end(pid: &str) {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let deadline = Instant::now() + TEST_TIMEOUT;
        while !(state().is_empty() || state().contains(") Z")) {
            assert!(Instant::now() < deadline, "still there: {}", state());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_process_that_leaves_the_group_is_killed_at_the_timeout() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        // The outer shells exit, so that the last process has neither the group nor the parent of the command.
        let script = format!(
            "setsid sh -c 'setsid sh -c \"echo \\$\\$ > {}; exec sleep 987\" &' & sleep 987",
            pid.display()
        );
        let ran = sh(&script, Duration::from_secs(3)).await;
        assert!(ran.status.is_none());
        let pid = std::fs::read_to_string(pid).unwrap().trim().to_owned();
        wait_for_end(&pid).await;
    }

    #[test]
    fn only_listed_variables_are_inherited() {
        let all = [
            "PATH",
            "HOME",
            "LC_ALL",
            "LANG",
            "TZ",
            "TMPDIR",
            "USER",
            "DISCOVERD_STORE",
            "DISCOVER_URL",
            "ETCDCTL_PASSWORD",
            "DISCOVERD_TOKEN_FILE",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "LD_PRELOAD",
        ];
        let kept = inherited(all.map(|name| (name.into(), "x".into())).into_iter());
        let kept: Vec<OsString> = kept.map(|(name, _)| name).collect();
        assert_eq!(
            kept,
            ["PATH", "HOME", "LC_ALL", "LANG", "TZ", "TMPDIR", "USER"]
        );
    }

    #[tokio::test]
    async fn a_command_has_a_clean_environment() {
        // Cargo sets CARGO_MANIFEST_DIR for this test.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let ran = sh("env", TEST_TIMEOUT).await;
        for line in ran.output.lines() {
            let name = line.split('=').next().unwrap_or_default();
            let is_own = INHERITED_VARIABLES.contains(&name) || name.starts_with(LOCALE_PREFIX);
            // The shell sets the others.
            assert!(
                is_own || [RUN_VARIABLE, "PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn processes_left_behind_do_not_delay_the_result() {
        let ran = sh("sleep 30 & echo done", TEST_TIMEOUT);
        let ran = timeout(TEST_TIMEOUT / 3, ran).await.expect("not delayed");
        assert_eq!(ran.output, "done");
    }

    #[tokio::test]
    async fn a_command_gets_its_environment_and_input() {
        let command_line = CommandLine(["sh", "-c", "echo $WHO; cat"].map(str::to_owned).to_vec());
        let env = [("WHO".to_owned(), "me".to_owned())];
        let ran = run(&command_line, &env, b"said".to_vec(), TEST_TIMEOUT)
            .await
            .unwrap();
        assert_eq!(ran.output, "me\nsaid");
        let error = run(
            &CommandLine(vec!["/no/such".to_owned()]),
            &[],
            Vec::new(),
            TEST_TIMEOUT,
        )
        .await;
        assert!(error.unwrap_err().to_string().contains("/no/such"));
    }
}
