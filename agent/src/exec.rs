//! Commands of others, run with a bound on everything: their time, their output, and what they leave
//! behind.

use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use discover_core::{Error, ErrorKind, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// How much of the output is kept: the first bytes.
const KEPT: usize = 4096;
/// How long the end of the output is waited for, once the command has ended.
const REST: Duration = Duration::from_millis(200);

/// A command: a text that is split at single spaces, or a list of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Words(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    List(Vec<String>),
}

impl TryFrom<Raw> for Words {
    type Error = String;

    fn try_from(raw: Raw) -> std::result::Result<Words, String> {
        let words: Vec<String> = match raw {
            Raw::Text(text) => text.split(' ').map(str::to_owned).collect(),
            Raw::List(list) => list,
        };
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Words(words)),
            _ => Err("a command is empty; name a program".to_owned()),
        }
    }
}

impl Words {
    /// As it is shown.
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

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    /// None for one that was killed because its time was up.
    pub status: Option<ExitStatus>,
    /// The beginning of what it wrote.
    pub output: String,
}

/// Runs a command in a process group of its own, which is killed when the time is up and when nobody
/// waits for the command any more.
pub async fn run(
    words: &Words,
    env: &[(String, String)],
    input: Vec<u8>,
    within: Duration,
) -> Result<Ran> {
    let failed = |e| {
        Error::caused_by(
            ErrorKind::Resource,
            format!("cannot run {}", words.text()),
            e,
        )
    };
    let mut child = words
        .command()
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
    let group = Group::of(&child);
    let output = Mutex::<Vec<u8>>::default();
    let write = tell(child.stdin.take(), input);
    let out = keep(child.stdout.take(), &output);
    let err = keep(child.stderr.take(), &output);
    let mut talk = std::pin::pin!(async { tokio::join!(write, out, err) });
    let mut silent = false;
    let ended = async {
        tokio::select! {
            biased;
            status = child.wait() => status,
            _ = &mut talk => {
                silent = true;
                child.wait().await
            }
        }
    };
    let status = match timeout(within, ended).await {
        Ok(status) => {
            group.leave();
            // Whatever it left behind may hold its output open for ever.
            if !silent {
                let _ = timeout(REST, talk).await;
            }
            Some(status.map_err(failed)?)
        }
        Err(_) => {
            drop(group);
            let _ = child.wait().await;
            None
        }
    };
    let output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let output = String::from_utf8_lossy(&output).trim_end().to_owned();
    Ok(Ran { status, output })
}

async fn tell(pipe: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut pipe) = pipe {
        // A command need not read what it is told.
        let _ = pipe.write_all(&input).await;
    }
}

/// Reads to the end; what there is no room for is dropped.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, kept: &Mutex<Vec<u8>>) {
    let Some(mut pipe) = pipe else {
        return;
    };
    let mut buffer = [0; 1024];
    while let Ok(count) = pipe.read(&mut buffer).await
        && count > 0
    {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend(buffer.iter().take(room));
    }
}

/// The process group of a command. Killed when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(pid.map(Pid::from_raw))
    }

    /// Its leader ended by itself: its number may be another's soon.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn words(text: &str) -> Words {
        serde_json::from_str(text).unwrap()
    }

    async fn sh(script: &str, within: Duration) -> Ran {
        let words = Words(["sh", "-c", script].map(str::to_owned).to_vec());
        run(&words, &[], Vec::new(), within).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_is_a_text_split_at_spaces_or_a_list() {
        assert_eq!(words("\"a b  c\"").0, ["a", "b", "", "c"]);
        assert_eq!(words("[\"a b\", \"c\"]").0, ["a b", "c"]);
        for empty in ["\"\"", "[]", "[\"\"]"] {
            assert!(serde_json::from_str::<Words>(empty).is_err(), "{empty}");
        }
    }

    #[tokio::test]
    async fn the_output_is_kept_to_a_bound_and_the_rest_does_not_block_the_command() {
        let ran = sh(
            "echo first; head -c 1000000 /dev/zero | tr '\\0' x; exit 3",
            LONG,
        )
        .await;
        assert_eq!(ran.status.and_then(|s| s.code()), Some(3));
        assert!(ran.output.starts_with("first\n"));
        assert_eq!(ran.output.len(), KEPT);
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!(
            "trap '' TERM; sleep 987 & echo $! > {}; wait",
            pid.display()
        );
        // The time must do for a shell to begin, on a slow machine, too.
        let ran = sh(&script, Duration::from_secs(3)).await;
        assert!(ran.status.is_none());
        let pid = std::fs::read_to_string(pid).unwrap().trim().to_owned();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let deadline = Instant::now() + LONG;
        while !(state().is_empty() || state().contains(") Z")) {
            assert!(Instant::now() < deadline, "still there: {}", state());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_does_not_delay_it() {
        let ran = sh("sleep 30 & echo done", LONG);
        let ran = timeout(LONG / 3, ran).await.expect("not delayed");
        assert_eq!(ran.output, "done");
    }

    #[tokio::test]
    async fn a_command_has_its_environment_and_its_input() {
        let words = Words(["sh", "-c", "echo $WHO; cat"].map(str::to_owned).to_vec());
        let env = [("WHO".to_owned(), "me".to_owned())];
        let ran = run(&words, &env, b"said".to_vec(), LONG).await.unwrap();
        assert_eq!(ran.output, "me\nsaid");
        let error = run(&Words(vec!["/no/such".to_owned()]), &[], Vec::new(), LONG).await;
        assert!(error.unwrap_err().to_string().contains("/no/such"));
    }
}
