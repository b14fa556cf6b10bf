//! One look at an instance: by TCP, by HTTP, by a command.

use std::process::Stdio;
use std::time::Duration;

use axum::http::Uri;
use discover_core::{Error, Kind, Result};
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::health::machine::Outcome;

/// How much of a command's output is kept, in bytes.
const KEPT: usize = 4096;

/// How to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `host:port` takes a connection.
    Tcp(String),
    /// `http://host:port/path` answers with a status of 200 to 299; 429 is a warning.
    Http(String),
    /// A command ends with 0; 1 is a warning.
    Exec(Vec<String>),
}

impl Check {
    /// Refuses what could never work. Commands only where the agent's owner allows them.
    pub fn checked(self, commands: bool) -> Result<Check> {
        match &self {
            Check::Tcp(address) if !address.contains(':') => Err(Error::invalid(format!(
                "check tcp is {address:?}; write host:port"
            ))),
            Check::Http(url) => place(url).map(|_| self),
            Check::Exec(command) if command.first().is_none_or(String::is_empty) => {
                Err(Error::invalid("check exec has no command"))
            }
            Check::Exec(_) if !commands => {
                let text = "check exec runs commands, which this agent does not do for others; \
                            start it with --allow-exec";
                Err(Error::new(Kind::PermissionDenied, text))
            }
            _ => Ok(self),
        }
    }

    /// Looks once.
    pub async fn look(&self, within: Duration) -> Outcome {
        let done = match self {
            Check::Tcp(address) => timeout(within, tcp(address)).await,
            Check::Http(url) => timeout(within, http(url)).await,
            Check::Exec(command) => return exec(command, within).await,
        };
        done.unwrap_or_else(|_| Outcome::Bad(format!("no answer within {within:?}")))
    }
}

async fn tcp(address: &str) -> Outcome {
    match TcpStream::connect(address).await {
        Ok(_) => Outcome::Good,
        Err(error) => Outcome::Bad(format!("{address}: {error}")),
    }
}

async fn http(url: &str) -> Outcome {
    match ask(url).await {
        Ok(200..=299) => Outcome::Good,
        Ok(429) => Outcome::Warn(format!("{url} says 429")),
        Ok(status) => Outcome::Bad(format!("{url} says {status}")),
        Err(error) => Outcome::Bad(error.to_string()),
    }
}

/// The status that it answers with. A redirection is not followed: it is another place's health.
async fn ask(url: &str) -> Result<u16> {
    let (address, host, path) = place(url)?;
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused_by(Kind::Unavailable, format!("{url} does not answer"), e)
    };
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|e| failed(e.into()))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(e.into()))?;
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", "discoverd")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|e| failed(e.into()))?;
    let answer = async {
        sender
            .send_request(request)
            .await
            .map(|a| a.status().as_u16())
    };
    // The connection is driven here, and ends here.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        status = &mut answer => status.map_err(|e| failed(e.into())),
        ended = &mut connection => match ended {
            Ok(()) => answer.await.map_err(|e| failed(e.into())),
            Err(error) => Err(failed(error.into())),
        },
    }
}

/// Address, host and path of an URL.
fn place(url: &str) -> Result<(String, String, String)> {
    let bad = || {
        Error::invalid(format!(
            "check http is {url:?}; write http://host:port/path"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let authority = uri.authority().ok_or_else(bad)?;
    if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
        return Err(bad());
    }
    let port = authority.port_u16().unwrap_or(80);
    let address = format!("{}:{port}", authority.host());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((address, authority.to_string(), path.to_owned()))
}

async fn exec(command: &[String], within: Duration) -> Outcome {
    let Some((program, arguments)) = command.split_first() else {
        return Outcome::Bad("no command".to_owned());
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, which is killed as a whole.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Outcome::Bad(format!("{program}: {error}")),
    };
    match timeout(within, end_of(&mut child)).await {
        Ok(Ok((Some(0), _))) => Outcome::Good,
        Ok(Ok((Some(1), output))) => Outcome::Warn(output),
        Ok(Ok((_, output))) => Outcome::Bad(output),
        Ok(Err(error)) => Outcome::Bad(format!("{program}: {error}")),
        Err(_) => {
            kill_group(&child);
            let _ = child.wait().await;
            Outcome::Bad(format!("{program} was killed after {within:?}"))
        }
    }
}

/// Kills a command that is a group of its own, with its children.
pub fn kill_group(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The exit code, none for one that a signal ended, and the beginning of the output.
async fn end_of(child: &mut Child) -> std::io::Result<(Option<i32>, String)> {
    let mut kept = Vec::new();
    if let Some(mut out) = child.stdout.take() {
        let mut chunk = [0; 4096];
        loop {
            let read = out.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            // The rest is read, so that the command does not wait for it, and forgotten.
            let room = KEPT.saturating_sub(kept.len()).min(read);
            kept.extend(chunk.iter().take(room));
        }
    }
    let status = child.wait().await?;
    Ok((
        status.code(),
        String::from_utf8_lossy(&kept).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Check {
        Check::Exec(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_bad() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = Check::Tcp(listener.local_addr().unwrap().to_string());
        assert_eq!(check.look(PATIENCE).await, Outcome::Good);
        drop(listener);
        assert!(matches!(check.look(PATIENCE).await, Outcome::Bad(_)));
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let check = Check::Http(format!("http://{address}/health?x=1"));
        for (status, word) in [
            ("204 Fine", "good"),
            ("429 Slow", "warn"),
            ("302 Away", "bad"),
        ] {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(b"GET /health?x=1 HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream
            };
            let (outcome, _stream) = tokio::join!(check.look(PATIENCE), serve);
            let found = match outcome {
                Outcome::Good => "good",
                Outcome::Warn(_) => "warn",
                Outcome::Bad(_) => "bad",
            };
            assert_eq!(found, word, "{status}");
        }
        // One that never answers.
        let silent = Duration::from_millis(50);
        assert!(matches!(check.look(silent).await, Outcome::Bad(_)));
    }

    #[tokio::test]
    async fn a_command_says_by_its_status_and_its_output_is_bounded() {
        assert_eq!(sh("exit 0").look(PATIENCE).await, Outcome::Good);
        let warn = sh("echo slow; exit 1").look(PATIENCE).await;
        assert_eq!(warn, Outcome::Warn("slow".to_owned()));
        let Outcome::Bad(output) = sh("yes | head -c 1000000; exit 2").look(PATIENCE).await else {
            panic!("not bad")
        };
        assert!(output.len() <= KEPT);
        assert!(matches!(
            sh("kill -9 $$").look(PATIENCE).await,
            Outcome::Bad(_)
        ));
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let outcome = sh(&script).look(Duration::from_millis(500)).await;
        assert!(
            matches!(outcome, Outcome::Bad(ref why) if why.contains("killed")),
            "{outcome:?}"
        );
        let pid: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // It is gone, or at least dead and not yet buried.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }

    #[test]
    fn what_could_never_work_is_refused_and_commands_unless_allowed() {
        for bad in [
            Check::Tcp("8080".to_owned()),
            Check::Http("https://h/".to_owned()),
            Check::Http("http://u:p@h/".to_owned()),
            Check::Exec(vec![]),
        ] {
            assert!(bad.clone().checked(true).is_err(), "{bad:?}");
        }
        assert!(sh("true").checked(true).is_ok());
        let refused = sh("true").checked(false).unwrap_err();
        assert_eq!(refused.kind(), Kind::PermissionDenied);
    }
}
