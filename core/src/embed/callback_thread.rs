//! The callback thread `discover-cb`, on which all foreign code runs.
//!
//! The thread owns the callbacks, so they share no lock with the engine. Cancelling a callback is a message
//! to the thread, and dropping a sink on the thread is the destroy notification of the sink.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crate::embed::callback_loop::{Message, run};
use crate::error::{Error, ErrorKind, Result};
use crate::set::Event;

/// Receives wake-ups for a feed. Called and dropped on the callback thread only.
pub trait Waker: Send + 'static {
    /// Signals that the feed has events. Wake-ups are merged: one stands for everything until the next drain.
    fn wake(&mut self);
}

/// Receives events. Called and dropped on the callback thread only.
pub trait Sink: Send + 'static {
    /// Handles one event. The next event follows after this returns.
    fn event(&mut self, event: &Event);

    /// Handles the events since the last call in order, and stops once `goes_on` returns false. A binding
    /// whose language has to be entered first overrides this method to enter it once for all events.
    fn events(&mut self, events: &[Event], goes_on: &dyn Fn() -> bool) {
        for event in events {
            if !goes_on() {
                return;
            }
            self.event(event);
        }
    }
}

/// Handle of the callback thread.
pub(super) struct DispatchThread {
    messages: Sender<Message>,
    /// Disconnected when the thread has exited.
    exited: std::sync::Mutex<Receiver<()>>,
    thread: ThreadId,
    handle: std::sync::Mutex<Option<JoinHandle<()>>>,
    ids: AtomicU64,
}

impl DispatchThread {
    pub(super) fn start() -> Result<DispatchThread> {
        let (messages, inbox) = channel();
        let (alive, exited) = channel();
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
        Ok(DispatchThread {
            messages,
            exited: exited.into(),
            thread: handle.thread().id(),
            handle: Some(handle).into(),
            ids: AtomicU64::new(0),
        })
    }

    /// Returns the id of a new callback.
    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Fails with `Busy` inside a callback, where waiting for the callback thread would deadlock.
    pub(super) fn check_may_wait(&self) -> Result<()> {
        if thread::current().id() != self.thread {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Busy,
            "inside a callback, this would wait for that very callback; do it from another thread",
        ))
    }

    /// Sends a message. Returns false after the thread has exited; then the message is dropped at once, with
    /// everything it owns.
    pub(super) fn send(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }

    /// Returns a sender for messages. A message sent after the thread has exited is dropped at once.
    pub(super) fn messages(&self) -> Sender<Message> {
        self.messages.clone()
    }

    /// Drops all callbacks and ends the thread. Returns false if a callback still runs when `within` has
    /// passed; the thread then ends when that callback returns.
    pub(super) fn stop(&self, within: Duration) -> bool {
        self.send(Message::Stop);
        let exited = self
            .exited
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = exited.recv_timeout(within) {
            return false;
        }
        let mut handle = self
            .handle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // The thread catches and logs panics itself.
        let _ = handle.take().map(JoinHandle::join);
        true
    }
}
