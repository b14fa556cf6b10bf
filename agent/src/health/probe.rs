//! Probe of an instance: one run of its health check.

use std::time::Duration;

use discover_core::network_error_cause;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::exec::{self, CommandOutput};
use crate::health::check::{Check, CheckTarget, TlsTrust};
use crate::health::target_policy::{self, TargetPolicy};
use crate::health::threshold::Outcome;
use crate::health::tls;

/// Maximum length of a command's output in the note, in characters.
const MAX_OUTPUT_CHARS: usize = 512;

/// Probes an instance within the timeout of its check.
pub async fn run(check: &Check) -> Outcome {
    let probe = async {
        match &check.target {
            CheckTarget::Tcp(address) => connect(address, &check.target_policy)
                .await
                .map(|_| Outcome::Pass("connected".to_owned())),
            CheckTarget::Http { address, path, tls } => {
                http(address, path, tls.as_ref(), &check.target_policy).await
            }
            CheckTarget::Exec(words, warning) => {
                let output = exec::run(words, &[], Vec::new(), check.timeout).await;
                return output.map_or_else(
                    |error| Outcome::Fail(error.to_string()),
                    |output| command_outcome(&output, *warning, check.timeout),
                );
            }
        }
        .unwrap_or_else(Outcome::Fail)
    };
    // A command has its own timeout, which kills it and its children.
    match &check.target {
        CheckTarget::Exec(..) => probe.await,
        _ => timeout(check.timeout, probe)
            .await
            .unwrap_or_else(|_| Outcome::Fail(format!("no response within {:?}", check.timeout))),
    }
}

/// Connects to an address that the policy allows. The name is resolved once, so that the checked addresses
/// are the ones used.
async fn connect(address: &str, policy: &TargetPolicy) -> Result<TcpStream, String> {
    let found = lookup_host(address).await;
    let found = found.map_err(|e| network_error_cause(&e))?;
    let (allowed, refused): (Vec<_>, Vec<_>) = found.partition(|at| policy.allows(at.ip()));
    match refused.first() {
        Some(at) if allowed.is_empty() => Err(target_policy::refusal(at.ip())),
        _ => TcpStream::connect(&allowed[..])
            .await
            .map_err(|e| network_error_cause(&e)),
    }
}

async fn http(
    address: &str,
    path: &str,
    trust: Option<&TlsTrust>,
    policy: &TargetPolicy,
) -> Result<Outcome, String> {
    let stream = connect(address, policy).await?;
    match trust {
        Some(trust) => {
            let stream = tls::connect(stream, address, trust.as_deref()).await?;
            send_get(stream, address, path).await
        }
        None => send_get(stream, address, path).await,
    }
}

async fn send_get<S>(stream: S, address: &str, path: &str) -> Result<Outcome, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(io)
        .await
        .map_err(|e| network_error_cause(&e))?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(USER_AGENT, "discoverd")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    // The connection ends with this function; the body is not read.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await;
    let response = response.map_err(|e| network_error_cause(&e))?;
    let status = response.status();
    let note = format!("status {status}");
    Ok(match status.as_u16() {
        200..=299 => Outcome::Pass(note),
        // Too many requests: the instance works, but needs attention.
        429 => Outcome::Warn(note),
        _ => Outcome::Fail(note),
    })
}

fn command_outcome(output: &CommandOutput, warning: Option<u8>, timeout: Duration) -> Outcome {
    let text: String = output.output.chars().take(MAX_OUTPUT_CHARS).collect();
    let Some(status) = output.status else {
        return Outcome::Fail(format!("killed: not finished within {timeout:?}"));
    };
    let warns = warning.is_some_and(|code| status.code() == Some(i32::from(code)));
    match (status.success(), warns) {
        (true, _) => Outcome::Pass(text),
        (_, true) => Outcome::Warn(text),
        _ => Outcome::Fail(format!("{status}: {text}")),
    }
}
