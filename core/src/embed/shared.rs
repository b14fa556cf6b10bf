//! What an engine and all that came out of it stand on: the client, the two threads, and their end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::client::Client;
use crate::embed::dispatch::Dispatch;
use crate::embed::gate::Message;
use crate::error::{Error, Kind, Result};
use crate::sys;

/// What an engine and all that came out of it share.
pub(super) struct Shared {
    pub(super) client: OnceLock<Client>,
    pub(super) dispatch: Dispatch,
    /// True once closing; calls under way hold a receiver until they have handed over their result.
    pub(super) closing: watch::Sender<bool>,
    pub(super) handle: Handle,
    /// Taken by whoever closes; the lock makes closers wait for each other.
    runtime: Mutex<Option<Runtime>>,
}

impl Shared {
    /// Starts both threads.
    pub(super) fn start() -> Result<Arc<Shared>> {
        let runtime = start_runtime()?;
        Ok(Arc::new(Shared {
            client: OnceLock::new(),
            dispatch: Dispatch::start()?,
            closing: watch::Sender::new(false),
            handle: runtime.handle().clone(),
            runtime: Some(runtime).into(),
        }))
    }

    /// Where calls run, unless closed.
    pub(super) fn runtime(&self) -> Result<&Handle> {
        if *self.closing.borrow() {
            return Err(closed());
        }
        Ok(&self.handle)
    }

    /// The client, unless closed.
    pub(super) fn client(&self) -> Result<Client> {
        self.runtime()?;
        self.opened()
    }

    /// The same, also when it is closed.
    pub(super) fn opened(&self) -> Result<Client> {
        self.client
            .get()
            .cloned()
            .ok_or_else(|| Error::new(Kind::Internal, "used before it was open"))
    }

    fn runtime_slot(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In this order: calls under way end, leases are released, callbacks end and their owners are
    /// told, threads end.
    pub(super) fn close(&self, timeout: Duration) -> Result<()> {
        self.dispatch.check_may_wait()?;
        let mut slot = self.runtime_slot();
        let Some(runtime) = slot.take() else {
            return Ok(());
        };
        let client = self.client.get().cloned();
        self.closing.send_replace(true);
        let released = self.closing.clone();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let _ = tokio::time::timeout(timeout, released.closed()).await;
            let done = match client {
                Some(client) => client.close(timeout).await,
                None => Ok(()),
            };
            let _ = sender.send(done);
        });
        let done = receiver.recv().unwrap_or(Ok(()));
        let stopped = self.dispatch.stop(timeout);
        runtime.shutdown_timeout(Duration::from_secs(1));
        if stopped {
            return done;
        }
        let text = format!("closed, but a callback was still running after {timeout:?}");
        Err(Error::new(Kind::Timeout, text))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Reached unclosed only when opening failed; nobody waits for us.
        if let Some(runtime) = self.runtime_slot().take() {
            self.closing.send_replace(true);
            self.dispatch.post(Message::Stop);
            runtime.shutdown_background();
        }
    }
}

/// The runtime and its thread. Where there is none to be had, the builder panics instead of saying so.
fn start_runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("discover-rt");
    builder.on_thread_start(sys::hold_sigpipe);
    let built = catch_unwind(AssertUnwindSafe(|| builder.enable_all().build()));
    let text = "cannot start the thread discover-rt";
    match built {
        Ok(built) => built.map_err(|e| Error::caused_by(Kind::Resource, text, e)),
        Err(_) => Err(Error::new(Kind::Resource, text)),
    }
}

/// The answer of everything after the end.
pub(super) fn closed() -> Error {
    Error::new(Kind::Closed, "the client was closed")
}
