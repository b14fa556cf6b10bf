//! Connecting to the first endpoint that responds: an endpoint that is slow or dead costs a fraction of a second.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::{Error, ErrorKind, Result};

/// How long an endpoint has before the next one is tried beside it.
const ENDPOINT_DELAY: Duration = Duration::from_millis(250);
/// Upper bound of the time of one round over all endpoints.
const MAX_ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout of a round over all endpoints: doubles with each round that fails, so that a slow link connects in the
/// end, while a caller soon learns why it has to wait.
pub(super) struct RoundTimeout {
    base: Duration,
    failed_rounds: u32,
}

impl RoundTimeout {
    pub(super) fn new(base: Duration) -> RoundTimeout {
        let failed_rounds = 0;
        RoundTimeout {
            base,
            failed_rounds,
        }
    }

    /// Returns the timeout of the next round, which counts as failed until [`RoundTimeout::reset`].
    pub(super) fn next_round(&mut self) -> Duration {
        let timeout = self.base * (1 << self.failed_rounds.min(8));
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        timeout.min(MAX_ROUND_TIMEOUT)
    }

    /// Records that a round has succeeded.
    pub(super) fn reset(&mut self) {
        self.failed_rounds = 0;
    }
}

/// Connects to the endpoints in turn, starting at `first`. Attempts that have no response yet continue meanwhile. Returns
/// the first connection. `name` names the server at an endpoint in errors.
///
/// # Errors
///
/// Fails with the causes of all endpoints if none responds within `limit`.
pub(super) async fn connect_any<T, F: Future<Output = Result<T>>>(
    endpoints: &[String],
    first: usize,
    limit: Duration,
    name: impl Fn(&str) -> String,
    connect: impl Fn(String) -> F,
) -> Result<T> {
    let start = Instant::now();
    let deadline = start + limit;
    let (later, sooner) = endpoints.split_at(first % endpoints.len().max(1));
    let mut waiting: VecDeque<&String> = sooner.iter().chain(later).collect();
    let mut errors = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let mut next_start = start;
    loop {
        if next_start <= Instant::now()
            && let Some(endpoint) = waiting.pop_front()
        {
            let opening = timeout_at(deadline, connect(endpoint.clone()));
            let name = &name;
            attempts.push(async move {
                opening.await.unwrap_or_else(|_| {
                    let text = format!("{}: no answer within {limit:?}", name(endpoint));
                    Err(Error::new(ErrorKind::Timeout, text))
                })
            });
            next_start = Instant::now() + ENDPOINT_DELAY;
        }
        let has_more = !waiting.is_empty();
        tokio::select! {
            biased;
            ended = attempts.next() => match ended {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => {
                    errors.push(error);
                    next_start = Instant::now();
                    if attempts.is_empty() && !has_more {
                        return Err(combined_error(errors));
                    }
                }
                None => return Err(combined_error(errors)),
            },
            () = sleep_until(next_start), if has_more => {}
        }
    }
}

/// Combines the errors of all endpoints. A refused login is final; any other error is retriable if one of them is.
fn combined_error(errors: Vec<Error>) -> Error {
    let refused = |error: &&Error| error.kind() == ErrorKind::PermissionDenied;
    let decisive = errors.iter().find(refused);
    let decisive = decisive.or_else(|| errors.iter().find(|error| error.is_retriable()));
    match (decisive.or(errors.first()), &errors[..]) {
        (Some(only), [_]) => only.clone(),
        (Some(decisive), _) => {
            let causes: Vec<String> = errors.iter().map(Error::report).collect();
            Error::new(decisive.kind(), causes.join("; "))
        }
        (None, _) => Error::new(ErrorKind::Unavailable, "the URL has no endpoint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    async fn run(endpoints: &[&str], first: usize) -> (Result<String>, Duration) {
        let endpoints: Vec<String> = endpoints.iter().map(|&e| e.to_owned()).collect();
        let start = Instant::now();
        let connect = async |endpoint: String| match endpoint.split_once('-') {
            Some(("dead", _)) => std::future::pending().await,
            Some(("closed", _)) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{endpoint}: connection refused"),
            )),
            Some(("login", _)) => Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("{endpoint}: wrong password"),
            )),
            _ => Ok(endpoint),
        };
        let result = connect_any(&endpoints, first, LIMIT, str::to_owned, connect).await;
        (result, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_endpoint_costs_a_quarter_of_a_second() {
        let (connected, took) = run(&["dead-1", "dead-2", "live"], 0).await;
        assert_eq!(connected.unwrap(), "live");
        assert_eq!(took.as_millis() / 10, 50);
        let (connected, took) = run(&["dead-1", "closed-2", "live"], 1).await;
        assert_eq!(connected.unwrap(), "live");
        assert_eq!(took, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_names_all_endpoints() {
        let (refused, took) = run(&["dead-1", "closed-2", "dead-3"], 0).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for part in [
            "dead-1: no answer",
            "closed-2: connection refused",
            "dead-3: no answer",
        ] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(took, LIMIT);
        let (refused, _) = run(&["closed-1", "login-2"], 0).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let (refused, _) = run(&["closed-1"], 0).await;
        assert_eq!(
            refused.unwrap_err().message(),
            "closed-1: connection refused"
        );
    }

    #[test]
    fn the_timeout_of_a_round_grows_until_one_succeeds() {
        let mut timeout = RoundTimeout::new(LIMIT);
        let rounds: Vec<u64> = (0..6).map(|_| timeout.next_round().as_secs()).collect();
        assert_eq!(rounds, [2, 4, 8, 16, 30, 30]);
        timeout.reset();
        assert_eq!(timeout.next_round(), LIMIT);
    }
}
