//! One look at an instance.

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

use crate::exec::{self, Ran};
use crate::health::check::{Check, Trust, What};
use crate::health::target_policy::{self, TargetPolicy};
use crate::health::threshold::Outcome;
use crate::health::tls;

/// The most letters of a command's output that are told.
const TOLD: usize = 512;

/// Looks, for as long as the check allows.
pub async fn look(check: &Check) -> Outcome {
    let look = async {
        match &check.what {
            What::Tcp(address) => connect(address, &check.reach)
                .await
                .map(|_| Outcome::Pass("connected".to_owned())),
            What::Http { address, path, tls } => {
                http(address, path, tls.as_ref(), &check.reach).await
            }
            What::Exec(words, warning) => {
                let ran = exec::run(words, &[], Vec::new(), check.timeout).await;
                return ran.map_or_else(
                    |error| Outcome::Fail(error.to_string()),
                    |ran| judge(&ran, *warning, check.timeout),
                );
            }
        }
        .unwrap_or_else(Outcome::Fail)
    };
    // A command has its own time, so that it can be cleared away.
    match &check.what {
        What::Exec(..) => look.await,
        _ => timeout(check.timeout, look)
            .await
            .unwrap_or_else(|_| Outcome::Fail(format!("no answer within {:?}", check.timeout))),
    }
}

/// To an address that may be looked at: what a name means is looked up once, and that is asked.
async fn connect(address: &str, reach: &TargetPolicy) -> Result<TcpStream, String> {
    let found = lookup_host(address).await;
    let found = found.map_err(|e| network_error_cause(&e))?;
    let (may, not): (Vec<_>, Vec<_>) = found.partition(|at| reach.allows(at.ip()));
    match not.first() {
        Some(at) if may.is_empty() => Err(target_policy::refusal(at.ip())),
        _ => TcpStream::connect(&may[..])
            .await
            .map_err(|e| network_error_cause(&e)),
    }
}

async fn http(
    address: &str,
    path: &str,
    trust: Option<&Trust>,
    reach: &TargetPolicy,
) -> Result<Outcome, String> {
    let stream = connect(address, reach).await?;
    match trust {
        Some(trust) => {
            let stream = tls::over(stream, address, trust.as_deref()).await?;
            ask(stream, address, path).await
        }
        None => ask(stream, address, path).await,
    }
}

async fn ask<S>(stream: S, address: &str, path: &str) -> Result<Outcome, String>
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
    // The connection ends with this function: nobody is interested in the body.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|e| network_error_cause(&e))?;
    let status = answer.status();
    let said = format!("status {status}");
    Ok(match status.as_u16() {
        200..=299 => Outcome::Pass(said),
        // Too many requests: it works, and somebody should look at it.
        429 => Outcome::Warn(said),
        _ => Outcome::Fail(said),
    })
}

fn judge(ran: &Ran, warning: Option<u8>, within: Duration) -> Outcome {
    let output: String = ran.output.chars().take(TOLD).collect();
    let Some(status) = ran.status else {
        return Outcome::Fail(format!("killed: not done within {within:?}"));
    };
    let warns = warning.is_some_and(|code| status.code() == Some(i32::from(code)));
    match (status.success(), warns) {
        (true, _) => Outcome::Pass(output),
        (_, true) => Outcome::Warn(output),
        _ => Outcome::Fail(format!("{status}: {output}")),
    }
}
