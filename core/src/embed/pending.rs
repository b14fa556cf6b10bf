//! Asynchronous calls of a binding and the three ways to receive their result: block, poll, or a callback.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture, FutureExt, abortable};

use crate::embed::callback_loop::Message;
use crate::embed::engine_state::{EngineState, closed};
use crate::error::{Error, ErrorKind, Result};

/// A call that has not started. It ends with its result, at its deadline, or with `Closed` when the client
/// closes.
#[must_use = "the call starts only when it is waited for"]
pub struct Pending<T> {
    pub(super) shared: Arc<EngineState>,
    pub(super) work: BoxFuture<'static, Result<T>>,
}

/// A call that is running. Dropping this does not stop the call.
pub struct RunningCall<T>(Receiver<Result<T>>);

/// Ends a call early. Dropping this has no effect.
pub struct Abort(AbortHandle);

impl Abort {
    /// Aborts the call if it is still running.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> Pending<T> {
    /// Returns this call with a deadline, if `timeout` is given. An operation on a lease continues in the
    /// background after the deadline.
    pub fn within(self, timeout: Option<Duration>, what: &'static str) -> Pending<T> {
        let Some(timeout) = timeout else {
            return self;
        };
        let Pending { shared, work } = self;
        let late = move |_| {
            let text = format!("{what}: no answer within {timeout:?}");
            Err(Error::new(ErrorKind::Timeout, text))
        };
        let work = async move {
            let done = tokio::time::timeout(timeout, work).await;
            done.unwrap_or_else(late)
        };
        Pending {
            shared,
            work: work.boxed(),
        }
    }

    /// Waits for the result on this thread. Allowed inside a callback, where it delays the others.
    pub fn wait(self) -> Result<T> {
        self.start()?.0.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Begins, to be waited for in slices.
    pub fn start(self) -> Result<RunningCall<T>> {
        let (sender, receiver) = sync_channel(1);
        self.run(move |result, _| drop(sender.send(result)))?;
        Ok(RunningCall(receiver))
    }

    /// Begins, and has `done` called once on the callback thread. Never waits.
    pub fn then(self, done: impl FnOnce(Result<T>) + Send + 'static) -> Result<()> {
        self.run(move |result, shared| {
            shared
                .dispatch
                .send(Message::Run(Box::new(move || done(result))));
        })
    }

    /// Returns this call and a handle that ends it early, with `Closed`.
    pub fn abortable(self) -> (Pending<T>, Abort) {
        let Pending { shared, work } = self;
        let (work, handle) = abortable(work);
        let work = work.map(|result| {
            result.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the call was aborted")))
        });
        let work = work.boxed();
        (Pending { shared, work }, Abort(handle))
    }

    fn run(self, done: impl FnOnce(Result<T>, &EngineState) + Send + 'static) -> Result<()> {
        let Pending { shared, work } = self;
        let mut closing = shared.closing.subscribe();
        let runtime = shared.runtime()?;
        // Keeps the engine alive if opening fails.
        let owner = shared.clone();
        let work = AssertUnwindSafe(work)
            .catch_unwind()
            .map(|done| done.unwrap_or_else(panic_error));
        runtime.spawn(async move {
            let result = tokio::select! {
                result = work => result,
                _ = closing.wait_for(|closing| *closing) => Err(closed()),
            };
            done(result, &owner);
            // Closing waits until all receivers are dropped, so the callback thread still exists here.
            drop(closing);
        });
        Ok(())
    }
}

impl<T> RunningCall<T> {
    /// Returns the result, or none if the call is still running after `slice`.
    pub fn wait_for(&self, slice: Duration) -> Option<Result<T>> {
        match self.0.recv_timeout(slice) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(closed())),
        }
    }
}

/// Returns the error of a call that panicked.
fn panic_error<T>(panic: Box<dyn Any + Send>) -> Result<T> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Err(Error::new(
        ErrorKind::Internal,
        format!("a bug in libdiscover or a backend: {text}"),
    ))
}
