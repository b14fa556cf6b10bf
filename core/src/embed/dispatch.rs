//! The one thread on which foreign code runs. It owns what it calls, so no lock is shared with the
//! engine, cancelling is a message, and dropping a sink there *is* its destroy notification.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crate::embed::dispatch_loop::{Message, run};
use crate::error::{Error, ErrorKind, Result};
use crate::set::Event;

/// Says that there is something to drain. Called and dropped on the dispatch thread only.
pub trait Bell: Send + 'static {
    /// Rings are merged: one stands for everything until the next drain.
    fn ring(&mut self);
}

/// Takes events. Called and dropped on the dispatch thread only.
pub trait Sink: Send + 'static {
    /// One event; the next comes after it returns.
    fn event(&mut self, event: &Event);

    /// What happened since the last time, one after the other, for as long as it `goes_on`. For a language
    /// that has to be entered: once for all of them.
    fn events(&mut self, events: &[Event], goes_on: &dyn Fn() -> bool) {
        for event in events {
            if !goes_on() {
                return;
            }
            self.event(event);
        }
    }
}

/// The handle to the thread.
pub(super) struct Dispatch {
    messages: Sender<Message>,
    /// Hangs up when the thread is over.
    over: std::sync::Mutex<Receiver<()>>,
    thread: ThreadId,
    handle: std::sync::Mutex<Option<JoinHandle<()>>>,
    ids: AtomicU64,
}

impl Dispatch {
    pub(super) fn start() -> Result<Dispatch> {
        let (messages, inbox) = channel();
        let (alive, over) = channel();
        let body = move || {
            run(&inbox);
            drop(alive);
        };
        let handle = thread::Builder::new()
            .name("discover-cb".to_owned())
            .spawn(body)
            .map_err(|e| {
                Error::caused_by(
                    ErrorKind::Resource,
                    "cannot start the thread discover-cb",
                    e,
                )
            })?;
        Ok(Dispatch {
            messages,
            over: over.into(),
            thread: handle.thread().id(),
            handle: Some(handle).into(),
            ids: AtomicU64::new(0),
        })
    }

    /// A number for a new listener.
    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Refuses, inside a callback, to wait for what this thread would do after it.
    pub(super) fn check_may_wait(&self) -> Result<()> {
        if thread::current().id() != self.thread {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Busy,
            "inside a callback, this would wait for that very callback; do it from another thread",
        ))
    }

    /// Sends a message. One that comes after the end is dropped at once, with what it owns, and false
    /// says so.
    pub(super) fn post(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }

    /// Where others send messages; one that comes after the end is dropped at once.
    pub(super) fn messages(&self) -> Sender<Message> {
        self.messages.clone()
    }

    /// Drops all listeners and ends the thread; false if a callback still runs when the time is up.
    /// The thread then ends when that callback does.
    pub(super) fn stop(&self, within: Duration) -> bool {
        self.post(Message::Stop);
        let over = self
            .over
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = over.recv_timeout(within) {
            return false;
        }
        let mut handle = self
            .handle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A panic in there was caught and logged where it happened.
        let _ = handle.take().map(JoinHandle::join);
        true
    }
}
