//! Reduces the events of an agent to whole views. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use crate::backend::agent::problem;
use crate::backend::agent::sse::Message;
use crate::backend::agent::view_limit::ViewLimit;
use crate::error::{Error, ErrorKind, Result};
use crate::instance_json;
use crate::model::{Instance, ServiceName, View};

/// Reducer of one event stream about one service. Events take effect together, with the `status` event that
/// follows them.
pub(super) struct EventReducer {
    service: ServiceName,
    /// The view before this stream. Unchanged instances are reused from it.
    last: View,
    view: View,
    limit: ViewLimit,
    /// The agent's epoch.
    epoch: Option<u64>,
    /// Whether a whole view was emitted.
    complete: bool,
    changed: bool,
}

impl EventReducer {
    pub(super) fn new(service: ServiceName, last: View, max_instances: u64) -> EventReducer {
        let view = View {
            epoch: last.epoch,
            ..View::default()
        };
        EventReducer {
            service,
            last,
            view,
            limit: ViewLimit::new(max_instances),
            epoch: None,
            complete: false,
            changed: true,
        }
    }

    /// Returns the last emitted view, for the next stream.
    pub(super) fn into_last(self) -> View {
        if self.complete { self.view } else { self.last }
    }

    /// Applies an event. Returns the next view, or the error that makes it stale, or both.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Internal`] if the event is malformed, and with [`ErrorKind::InvalidArgument`] if the
    /// instances exceed a limit.
    pub(super) fn apply(&mut self, message: &Message) -> Result<VecDeque<Result<View>>> {
        let data: Value = serde_json::from_str(&message.data).map_err(|e| {
            let text = format!(
                "malformed event {:?} from the agent: it is not JSON",
                message.event
            );
            Error::caused_by(ErrorKind::Internal, text, e)
        })?;
        match message.event.as_str() {
            "up" | "update" => self.put(&data)?,
            "down" => self.remove(&data)?,
            "status" => return Ok(self.apply_status(&data)),
            // The view already contains the changes of the other events.
            _ => {}
        }
        Ok(VecDeque::new())
    }

    fn read(&self, data: &Value) -> Result<Instance> {
        let text = || {
            format!(
                "malformed instance of {} in an event from the agent",
                self.service
            )
        };
        instance_json::decode(&self.service, data)
            .ok_or_else(|| Error::new(ErrorKind::Internal, text()))
    }

    fn put(&mut self, data: &Value) -> Result<()> {
        let new = self.read(data)?;
        let seniority = new.order();
        let now = self.view.instances.get(&seniority);
        let known = now.or_else(|| self.last.instances.get(&seniority));
        let instance = match known {
            Some(old) if **old == new => old.clone(),
            // A changed instance keeps its count of calls in flight.
            Some(old) => Arc::new(new.with_load_of(old)),
            None => Arc::new(new),
        };
        if let Some(replaced) = self.view.instances.insert(seniority, instance.clone()) {
            self.limit.remove(&replaced);
        }
        self.changed = true;
        let count = self.view.instances.len();
        self.limit.add(&self.service, &instance, count)
    }

    fn remove(&mut self, data: &Value) -> Result<()> {
        let seniority = self.read(data)?.order();
        if let Some(removed) = self.view.instances.remove(&seniority) {
            self.limit.remove(&removed);
        }
        self.changed = true;
        Ok(())
    }

    fn apply_status(&mut self, status: &Value) -> VecDeque<Result<View>> {
        let number = |name: &str| status[name].as_u64().unwrap_or(0);
        let state = status["state"].as_str().unwrap_or("pending");
        let mut results = VecDeque::new();
        if state != "pending" {
            self.advance_to(number("epoch"), number("revision"));
            self.view.invalid = usize::try_from(number("invalid")).unwrap_or(0);
            if state == "current" || std::mem::take(&mut self.changed) {
                self.complete = true;
                self.changed = false;
                self.last = View::default();
                results.push_back(Ok(self.view.clone()));
            }
        }
        if !status["error"].is_null() {
            results.push_back(Err(problem::read(&status["error"], ErrorKind::Unavailable)));
        }
        results
    }

    /// Sets epoch and revision. A restarted agent counts its epochs anew; the view's epoch changes only if the
    /// agent's epoch changes within a stream or the revision goes back.
    fn advance_to(&mut self, epoch: u64, revision: u64) {
        let before = self.last.revision.max(self.view.revision);
        let is_new_epoch = self.epoch.is_some_and(|known| known != epoch) || revision < before;
        self.view.epoch += u64::from(is_new_epoch);
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

    fn reducer(last: View) -> EventReducer {
        EventReducer::new(ServiceName::new("web").unwrap(), last, 5)
    }

    fn views(reducer: &mut EventReducer, messages: &[Message]) -> Vec<View> {
        let results = messages.iter().flat_map(|m| reducer.apply(m).unwrap());
        results.map(|view| view.unwrap()).collect()
    }

    #[test]
    fn a_view_is_emitted_whole_at_the_status_and_not_before() {
        let mut web = reducer(View::default());
        assert!(views(&mut web, &[up(1, 5), up(2, 4)]).is_empty());
        let views = views(&mut web, &[status("current", 9)]);
        let ids: Vec<&str> = views[0].instances.values().map(|i| i.id()).collect();
        assert_eq!((ids, views[0].revision), (vec!["h:2", "h:1"], 9));
        let stale = message(
            "status",
            r#"{"state":"stale","revision":9,"error":{"kind":"timeout","detail":"slow"}}"#,
        );
        let mut stale = web.apply(&stale).unwrap();
        let error = stale.pop_front().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Timeout, "slow".to_owned())
        );
    }

    #[test]
    fn too_many_instances_are_an_error() {
        let mut web = reducer(View::default());
        for port in 1..=5 {
            web.apply(&up(port, 5)).unwrap();
        }
        web.apply(&up(5, 5)).unwrap();
        let error = web.apply(&up(6, 5)).unwrap_err();
        let expected = "web: the agent sends more than 5 instances; raise the option max_instances";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(
            web.into_last().instances.is_empty(),
            "the previous view stays"
        );
    }

    #[test]
    fn after_a_reconnect_unchanged_instances_are_reused() {
        let mut web = reducer(View::default());
        let before = views(&mut web, &[up(1, 5), status("current", 9)]).remove(0);
        let mut again = reducer(web.into_last());
        let after = views(&mut again, &[up(1, 5), up(2, 10), status("current", 10)]).remove(0);
        let key = before.instances.keys().next().unwrap();
        assert!(Arc::ptr_eq(&before.instances[key], &after.instances[key]));
        assert_eq!(after.epoch, before.epoch);
        let back = views(&mut reducer(after.clone()), &[status("current", 3)]).remove(0);
        assert_eq!(back.epoch, after.epoch + 1, "the revision went back");
    }

    #[test]
    fn a_malformed_event_is_an_error_and_no_panic() {
        for (event, data) in [
            ("up", "{}"),
            ("up", "nonsense"),
            ("down", "[]"),
            ("status", ""),
        ] {
            assert!(
                reducer(View::default())
                    .apply(&message(event, data))
                    .is_err()
            );
        }
    }
}
