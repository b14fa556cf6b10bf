//! A call that may take time, and the three ways to have its result.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture, FutureExt, abortable};

use crate::embed::dispatch_loop::Message;
use crate::embed::engine_state::{EngineState, closed};
use crate::error::{Error, ErrorKind, Result};

/// A call that has not begun. It ends by itself: with its result, at its deadline, or as `closed`
/// when the client is.
#[must_use = "nothing happens until it is waited for"]
pub struct Pending<T> {
    pub(super) shared: Arc<EngineState>,
    pub(super) work: BoxFuture<'static, Result<T>>,
}

/// A call that is under way. Letting go of it does not stop the call.
pub struct Waiting<T>(Receiver<Result<T>>);

/// Ends a call early. Letting go of it does nothing.
pub struct Abort(AbortHandle);

impl Abort {
    /// Ends the call if it is still under way.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> Pending<T> {
    /// The same with a deadline, if one is given. What a lease was asked to do goes on after it.
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
    pub fn start(self) -> Result<Waiting<T>> {
        let (sender, receiver) = sync_channel(1);
        self.run(move |result, _| drop(sender.send(result)))?;
        Ok(Waiting(receiver))
    }

    /// Begins, and has `done` called once on the dispatch thread. Never waits.
    pub fn then(self, done: impl FnOnce(Result<T>) + Send + 'static) -> Result<()> {
        self.run(move |result, shared| {
            shared
                .dispatch
                .post(Message::Run(Box::new(move || done(result))));
        })
    }

    /// The same call, and what ends it before its time, as `closed`.
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
        // What is opened is kept by nobody else, should it fail to open.
        let owner = shared.clone();
        let work = AssertUnwindSafe(work)
            .catch_unwind()
            .map(|done| done.unwrap_or_else(bug));
        runtime.spawn(async move {
            let result = tokio::select! {
                result = work => result,
                _ = closing.wait_for(|closing| *closing) => Err(closed()),
            };
            done(result, &owner);
            // Closing waits until all receivers are dropped, so the dispatch thread is still there.
            drop(closing);
        });
        Ok(())
    }
}

impl<T> Waiting<T> {
    /// The result, if it comes within `slice`.
    pub fn wait_for(&self, slice: Duration) -> Option<Result<T>> {
        match self.0.recv_timeout(slice) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(closed())),
        }
    }
}

/// The result of a call that panicked.
fn bug<T>(panic: Box<dyn Any + Send>) -> Result<T> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Err(Error::new(
        ErrorKind::Internal,
        format!("a bug in libdiscover or a backend: {text}"),
    ))
}
