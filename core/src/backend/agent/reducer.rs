//! The agent's events, folded into whole views. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use crate::backend::agent::problem;
use crate::backend::agent::sse::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::instance_json;
use crate::model::{Instance, ServiceName, View};

/// One stream of events about one service. Events become true together, with the `status` that ends
/// them.
pub(super) struct EventReducer {
    service: ServiceName,
    /// The view before this stream, whose instances are used again where they are the same.
    last: View,
    view: View,
    /// The agent's own count of histories.
    epoch: Option<u64>,
    /// Whether a whole view was told.
    whole: bool,
    changed: bool,
}

impl EventReducer {
    pub(super) fn new(service: ServiceName, last: View) -> EventReducer {
        let view = View {
            epoch: last.epoch,
            ..View::default()
        };
        EventReducer {
            service,
            last,
            view,
            epoch: None,
            whole: false,
            changed: true,
        }
    }

    /// The view as it was told last, for the next stream.
    pub(super) fn into_last(self) -> View {
        if self.whole { self.view } else { self.last }
    }

    /// What follows from an event: the next view, or that it is stale, or both.
    pub(super) fn take(&mut self, message: &Message) -> Result<VecDeque<Result<View>>> {
        let data: Value = serde_json::from_str(&message.data).map_err(|e| {
            let text = format!("the agent's event {:?} is not JSON", message.event);
            Error::caused_by(ErrorKind::Internal, text, e)
        })?;
        match message.event.as_str() {
            "up" | "update" => self.put(&data)?,
            "down" => self.remove(&data)?,
            "status" => return Ok(self.settle(&data)),
            // The rest says in other words what a view says.
            _ => {}
        }
        Ok(VecDeque::new())
    }

    fn read(&self, data: &Value) -> Result<Instance> {
        let text = "the agent told of an instance that is none";
        instance_json::read(&self.service, data)
            .ok_or_else(|| Error::new(ErrorKind::Internal, text))
    }

    fn put(&mut self, data: &Value) -> Result<()> {
        let new = self.read(data)?;
        let seniority = new.seniority();
        let now = self.view.instances.get(&seniority);
        let known = now.or_else(|| self.last.instances.get(&seniority));
        let instance = match known {
            Some(old) if **old == new => old.clone(),
            // The same instance, changed, keeps its count of calls in flight.
            Some(old) => Arc::new(new.with_load_of(old)),
            None => Arc::new(new),
        };
        self.view.instances.insert(seniority, instance);
        self.changed = true;
        Ok(())
    }

    fn remove(&mut self, data: &Value) -> Result<()> {
        let seniority = self.read(data)?.seniority();
        self.view.instances.remove(&seniority);
        self.changed = true;
        Ok(())
    }

    fn settle(&mut self, status: &Value) -> VecDeque<Result<View>> {
        let number = |name: &str| status[name].as_u64().unwrap_or(0);
        let state = status["state"].as_str().unwrap_or("pending");
        let mut told = VecDeque::new();
        if state != "pending" {
            self.turn_to(number("epoch"), number("revision"));
            self.view.invalid = usize::try_from(number("invalid")).unwrap_or(0);
            if state == "current" || std::mem::take(&mut self.changed) {
                self.whole = true;
                self.changed = false;
                self.last = View::default();
                told.push_back(Ok(self.view.clone()));
            }
        }
        if !status["error"].is_null() {
            told.push_back(Err(problem::read(&status["error"], ErrorKind::Unavailable)));
        }
        told
    }

    /// An agent that was started again counts its histories anew; to us it is another history only if
    /// the revision goes back.
    fn turn_to(&mut self, epoch: u64, revision: u64) {
        let before = self.last.revision.max(self.view.revision);
        let turned = self.epoch.is_some_and(|known| known != epoch) || revision < before;
        self.view.epoch += u64::from(turned);
        self.view.revision = revision;
        self.epoch = Some(epoch);
    }
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

    fn up(port: u16, created: u64) -> Message {
        let data = format!(
            r#"{{"id":"h:{port}","host":"h","port":{port},"attributes":{{}},"tags":[],"created":{created}}}"#
        );
        message("up", &data)
    }

    fn status(state: &str, revision: u64) -> Message {
        let data = format!(r#"{{"state":"{state}","epoch":0,"revision":{revision},"invalid":0}}"#);
        message("status", &data)
    }

    fn fold(last: View) -> EventReducer {
        EventReducer::new(ServiceName::new("web").unwrap(), last)
    }

    fn told(fold: &mut EventReducer, messages: &[Message]) -> Vec<View> {
        let views = messages.iter().flat_map(|m| fold.take(m).unwrap());
        views.map(|view| view.unwrap()).collect()
    }

    #[test]
    fn a_view_is_told_whole_at_the_status_and_not_before() {
        let mut web = fold(View::default());
        assert!(told(&mut web, &[up(1, 5), up(2, 4)]).is_empty());
        let views = told(&mut web, &[status("current", 9)]);
        let ids: Vec<&str> = views[0].instances.values().map(|i| i.id()).collect();
        assert_eq!((ids, views[0].revision), (vec!["h:2", "h:1"], 9));
        let stale = message(
            "status",
            r#"{"state":"stale","revision":9,"error":{"kind":"timeout","detail":"slow"}}"#,
        );
        let mut stale = web.take(&stale).unwrap();
        let error = stale.pop_front().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Timeout, "slow".to_owned())
        );
    }

    #[test]
    fn after_a_reconnect_what_is_the_same_is_the_very_same() {
        let mut web = fold(View::default());
        let before = told(&mut web, &[up(1, 5), status("current", 9)]).remove(0);
        let mut again = fold(web.into_last());
        let after = told(&mut again, &[up(1, 5), up(2, 10), status("current", 10)]).remove(0);
        let key = before.instances.keys().next().unwrap();
        assert!(Arc::ptr_eq(&before.instances[key], &after.instances[key]));
        assert_eq!(after.epoch, before.epoch);
        let back = told(&mut fold(after.clone()), &[status("current", 3)]).remove(0);
        assert_eq!(back.epoch, after.epoch + 1, "the revision went back");
    }

    #[test]
    fn what_is_no_event_of_an_agent_is_an_error_and_no_panic() {
        for (event, data) in [
            ("up", "{}"),
            ("up", "nonsense"),
            ("down", "[]"),
            ("status", ""),
        ] {
            assert!(fold(View::default()).take(&message(event, data)).is_err());
        }
    }
}
