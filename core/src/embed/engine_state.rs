//! What an engine and all that came out of it stand on: the client, the two threads, and their end.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::client::Client;
use crate::embed::dispatch::Dispatch;
use crate::embed::dispatch_loop::Message;
use crate::embed::runtime::Runtime;
use crate::error::{Error, ErrorKind, Result};

/// What an engine and all that came out of it share.
pub(super) struct EngineState {
    pub(super) client: OnceLock<Client>,
    pub(super) dispatch: Dispatch,
    /// True once closing; calls under way hold a receiver until they have handed over their result.
    pub(super) closing: watch::Sender<bool>,
    pub(super) handle: Handle,
    /// Taken by whoever closes; the lock makes closers wait for each other.
    runtime: Mutex<Option<Runtime>>,
}

impl EngineState {
    /// Starts both threads.
    pub(super) fn start() -> Result<Arc<EngineState>> {
        let runtime = Runtime::start()?;
        Ok(Arc::new(EngineState {
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
            .ok_or_else(|| Error::new(ErrorKind::Internal, "used before it was open"))
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
        self.handle.spawn(async move {
            let _ = tokio::time::timeout(timeout, released.closed()).await;
            let done = match client {
                Some(client) => client.close(timeout).await,
                None => Ok(()),
            };
            let _ = sender.send(done);
        });
        let done = receiver.recv().unwrap_or(Ok(()));
        let stopped = self.dispatch.stop(timeout);
        runtime.stop();
        if stopped {
            return done;
        }
        let text = format!("closed, but a callback was still running after {timeout:?}");
        Err(Error::new(ErrorKind::Timeout, text))
    }
}

impl Drop for EngineState {
    fn drop(&mut self) {
        // Reached unclosed only when opening failed; nobody waits for us.
        if self.runtime_slot().take().is_some() {
            self.closing.send_replace(true);
            self.dispatch.post(Message::Stop);
        }
    }
}

/// The answer of everything after the end.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}
