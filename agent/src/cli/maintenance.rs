//! `maintenance`: holds back what an agent has registered.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use discover_core::{Error, Kind, Result, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::{At, show};
use crate::settings::default_socket;

/// How long the agent may take: its store may be slow.
const CALL: Duration = Duration::from_secs(15);
/// The longest answer, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// What becomes of them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Switch {
    /// Hold them back: others do not see them
    On,
    /// Hold them back, and say that they finish what they have begun
    Drain,
    /// Let go of them
    Off,
}

/// Holds back or lets go: one instance, one service, or all that is registered with the agent.
pub async fn maintenance(
    at: &At,
    switch: Switch,
    service: Option<&str>,
    id: Option<&str>,
) -> Result<()> {
    let mode = match switch {
        Switch::On => "maintenance",
        Switch::Drain => "draining",
        Switch::Off => "off",
    };
    let mut body = json!({ "mode": mode });
    for (name, value) in [("service", service), ("id", id)] {
        if let Some(value) = value {
            body[name] = Value::from(value);
        }
    }
    let call = put(at, "/v1/maintenance", &body);
    let slow = |_| {
        Error::new(
            Kind::Timeout,
            format!("the agent did not answer within {CALL:?}"),
        )
    };
    let answer = timeout(CALL, call).await.map_err(slow)??;
    let count = answer["instances"].as_u64().unwrap_or_default();
    show::print(&format!("{mode}: {count} instances\n"));
    Ok(())
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where the agent is, and what it asks for.
struct Agent {
    stream: Box<dyn Stream>,
    host: String,
    token: Option<String>,
}

async fn put(at: &At, path: &str, body: &Value) -> Result<Value> {
    let agent = connect(at).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(agent.stream))
            .await
            .map_err(unreachable)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header(HOST, agent.host)
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = agent.token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| Error::caused_by(Kind::InvalidArgument, "the agent's address", e))?;
    let response = sender.send_request(request).await.map_err(unreachable)?;
    let status = response.status();
    let read = Limited::new(response.into_body(), LONGEST).collect().await;
    let read = read.map_err(|e| Error::caused_by(Kind::Unavailable, "the agent's answer", e))?;
    let answer: Value = serde_json::from_slice(&read.to_bytes()).unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let told = answer["kind"].as_str();
    let kind = Kind::ALL.iter().find(|kind| Some(kind.name()) == told);
    let detail = answer["detail"].as_str().unwrap_or("no reason given");
    Err(Error::new(
        kind.copied().unwrap_or(Kind::Unavailable),
        format!("the agent refused, status {}: {detail}", status.as_u16()),
    ))
}

/// By the URL, if it is an agent's; else by the socket of this user, if there is one; else by the address
/// where agents listen.
async fn connect(at: &At) -> Result<Agent> {
    let given = at.url.as_deref().map(Uri::parse).transpose()?;
    let given = given.filter(|uri| uri.scheme().starts_with("discoverd"));
    let env = |name: &str| std::env::var(name).ok();
    let own = || default_socket(env, nix::unistd::geteuid().is_root()).filter(|path| path.exists());
    let over_tls = given.as_ref().is_some_and(|uri| uri.option("ca").is_some());
    if over_tls {
        let text = "this command does not speak TLS; run it on the agent's host, by its socket";
        return Err(Error::new(Kind::Unsupported, text));
    }
    let socket: Option<PathBuf> = match &given {
        Some(uri) => uri.scheme().ends_with("unix").then(|| uri.path().into()),
        None => own(),
    };
    let token = given.as_ref().map(token).transpose()?.flatten();
    if let Some(path) = socket {
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        return Ok(Agent {
            stream: Box::new(stream),
            host: "localhost".to_owned(),
            token,
        });
    }
    let authority = given
        .as_ref()
        .map(Uri::authority)
        .filter(|own| !own.is_empty());
    let host = authority.unwrap_or("127.0.0.1:1111").to_owned();
    let stream = TcpStream::connect(&host).await.map_err(|e| {
        let text = format!("the agent at {host} cannot be reached; name it with --url");
        Error::caused_by(Kind::Unavailable, text, e)
    })?;
    Ok(Agent {
        stream: Box::new(stream),
        host,
        token,
    })
}

fn token(uri: &Uri) -> Result<Option<String>> {
    match (uri.option("token"), uri.option("token_file")) {
        (Some(token), _) => Ok(Some(token.to_owned())),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path).map_err(|e| {
                let text = format!("option token_file: cannot read {path:?}");
                Error::caused_by(Kind::InvalidArgument, text, e)
            })?;
            Ok(Some(read.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn unreachable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(Kind::Unavailable, "the agent cannot be reached", cause)
}
