//! Losses of the registrations of one client, as the agent reports them: one stream for all registrations, which is open
//! while there are any.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::backend::agent::connection::AgentConnection;
use crate::backend::agent::problem;
use crate::backend::agent::sse::{Message, Parser};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};

/// The agent sends an event or a comment every 2 s. A stream that is silent for this long is opened again.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(6);
/// Limits of the waiting time before the stream is opened again. Until then, heartbeats report losses.
const MIN_RETRY_WAIT: Duration = Duration::from_millis(50);
const MAX_RETRY_WAIT: Duration = Duration::from_secs(5);

/// Waits for losses of the registrations of one client.
pub(super) struct LossStream {
    connection: Arc<AgentConnection>,
    owner: String,
    waiters: Arc<Mutex<Waiters>>,
}

#[derive(Default)]
struct Waiters {
    /// By grant.
    senders: HashMap<u64, oneshot::Sender<Error>>,
    /// Whether a task reads the stream.
    is_running: bool,
}

/// Removes a waiter when it is dropped.
struct WaiterGuard {
    waiters: Arc<Mutex<Waiters>>,
    grant: u64,
}

impl LossStream {
    pub(super) fn new(connection: Arc<AgentConnection>, owner: String) -> LossStream {
        LossStream {
            connection,
            owner,
            waiters: Arc::default(),
        }
    }

    /// Resolves when the agent reports that the registration with this grant ended. Never resolves with an agent of
    /// version 0.1, which has no such stream.
    pub(super) async fn wait(&self, grant: u64) -> Error {
        let (sender, receiver) = oneshot::channel();
        let is_running = {
            let mut waiters = lock(&self.waiters);
            waiters.senders.insert(grant, sender);
            std::mem::replace(&mut waiters.is_running, true)
        };
        let _guard = WaiterGuard {
            waiters: self.waiters.clone(),
            grant,
        };
        if !is_running {
            let (connection, waiters) = (self.connection.clone(), self.waiters.clone());
            tokio::spawn(run(connection, self.owner.clone(), waiters));
        }
        match receiver.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for WaiterGuard {
    fn drop(&mut self) {
        lock(&self.waiters).senders.remove(&self.grant);
    }
}

impl Waiters {
    fn report(&mut self, grant: u64, error: Error) {
        if let Some(sender) = self.senders.remove(&grant) {
            // The waiter may have been dropped.
            let _ = sender.send(error);
        }
    }

    /// Applies an event. `asked` are the grants that the agent must know: those of before the request for the stream.
    fn apply(&mut self, message: &Message, asked: &[u64]) -> Result<()> {
        let malformed = || {
            let text = format!(
                "malformed event {:?} about losses from the agent",
                message.event
            );
            Error::new(ErrorKind::Internal, text)
        };
        let data: Value = serde_json::from_str(&message.data).map_err(|_| malformed())?;
        match message.event.as_str() {
            "current" => {
                let known = data["grants"].as_array().ok_or_else(malformed)?;
                let known: HashSet<u64> = known.iter().filter_map(grant).collect();
                for grant in asked.iter().filter(|grant| !known.contains(grant)) {
                    let text = "the agent no longer has the registration";
                    self.report(*grant, Error::new(ErrorKind::LeaseLost, text));
                }
            }
            "lost" => {
                let grant = grant(&data["grant"]).ok_or_else(malformed)?;
                self.report(grant, problem::read(&data["error"], ErrorKind::LeaseLost));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads the stream while there are waiters.
async fn run(connection: Arc<AgentConnection>, owner: String, waiters: Arc<Mutex<Waiters>>) {
    let mut backoff = Backoff::new(MIN_RETRY_WAIT, MAX_RETRY_WAIT);
    loop {
        let error = read(&connection, &owner, &waiters, &mut backoff).await;
        {
            let mut waiters = lock(&waiters);
            // An agent of version 0.1 has no such resource; heartbeats report the losses.
            let is_unsupported = error.is_some_and(|error| error.kind() == ErrorKind::NotFound);
            if is_unsupported || waiters.senders.is_empty() {
                waiters.is_running = false;
                return;
            }
        }
        sleep(backoff.next_wait()).await;
    }
}

/// Reads the stream until it ends, fails, or no registration is left. Returns the failure.
async fn read(
    connection: &AgentConnection,
    owner: &str,
    waiters: &Mutex<Waiters>,
    backoff: &mut Backoff,
) -> Option<Error> {
    let asked: Vec<u64> = lock(waiters).senders.keys().copied().collect();
    let path = format!("/v1/registrations/events?owner={owner}");
    let mut body = match connection.stream(&path).await {
        Ok(body) => body,
        Err(error) => return Some(error),
    };
    let mut parser = Parser::default();
    // A keepalive comment wakes the loop every 2 s.
    while let Ok(Some(Ok(frame))) = timeout(SILENCE_TIMEOUT, body.frame()).await {
        let messages = match frame.data_ref().map(|bytes| parser.push(bytes)) {
            Some(Ok(messages)) => messages,
            Some(Err(error)) => return Some(error),
            None => Vec::new(),
        };
        let mut waiters = lock(waiters);
        for message in messages {
            if let Err(error) = waiters.apply(&message, &asked) {
                return Some(error);
            }
            backoff.reset();
        }
        if waiters.senders.is_empty() {
            return None;
        }
    }
    None
}

fn grant(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?, 16).ok()
}

fn lock(waiters: &Mutex<Waiters>) -> MutexGuard<'_, Waiters> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str) -> Message {
        Message {
            event: event.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn losses_and_grants_that_the_agent_does_not_know_reach_their_waiters() {
        let mut waiters = Waiters::default();
        let mut wait = |grant| {
            let (sender, receiver) = oneshot::channel();
            waiters.senders.insert(grant, sender);
            receiver
        };
        let (mut known, mut unknown, mut later) = (wait(1), wait(2), wait(3));
        let current = message("current", r#"{"grants":["0000000000000001"]}"#);
        waiters.apply(&current, &[1, 2]).unwrap();
        let lost = unknown.try_recv().unwrap();
        assert_eq!(lost.kind(), ErrorKind::LeaseLost);
        assert!(known.try_recv().is_err() && later.try_recv().is_err());
        let data = r#"{"grant":"0000000000000001","error":{"kind":"replaced","detail":"web/h:1"}}"#;
        waiters.apply(&message("lost", data), &[]).unwrap();
        assert_eq!(known.try_recv().unwrap().kind(), ErrorKind::Replaced);
        for (event, data) in [("lost", "{}"), ("current", "[]"), ("lost", "nonsense")] {
            assert!(
                waiters.apply(&message(event, data), &[]).is_err(),
                "{event} {data}"
            );
        }
    }
}
