//! State shared by an engine and all handles created by it: the client, the two threads, and their shutdown.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::client::Client;
use crate::embed::callback_loop::Message;
use crate::embed::callback_thread::DispatchThread;
use crate::embed::runtime::Runtime;
use crate::error::{Error, ErrorKind, Result};

/// State shared by an engine and all handles created by it.
pub(super) struct EngineState {
    pub(super) client: OnceLock<Client>,
    pub(super) dispatch: DispatchThread,
    /// True once closing starts. Each running call holds a receiver until it has delivered its result.
    pub(super) closing: watch::Sender<bool>,
    pub(super) handle: Handle,
    /// Taken by the call that closes. The lock makes concurrent closers wait for each other.
    runtime: Mutex<Option<Runtime>>,
}

impl EngineState {
    /// Starts both threads.
    pub(super) fn start() -> Result<Arc<EngineState>> {
        let runtime = Runtime::start()?;
        Ok(Arc::new(EngineState {
            client: OnceLock::new(),
            dispatch: DispatchThread::start()?,
            closing: watch::Sender::new(false),
            handle: runtime.handle().clone(),
            runtime: Some(runtime).into(),
        }))
    }

    /// Returns the runtime on which calls run, or `Closed`.
    pub(super) fn runtime(&self) -> Result<&Handle> {
        if *self.closing.borrow() {
            return Err(closed());
        }
        Ok(&self.handle)
    }

    /// Returns the client, or `Closed`.
    pub(super) fn client(&self) -> Result<Client> {
        self.runtime()?;
        self.opened()
    }

    /// Returns the client even if it is closed.
    pub(super) fn opened(&self) -> Result<Client> {
        self.client
            .get()
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "used before it was open"))
    }

    fn runtime_slot(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes in this order: running calls end, leases are released, callbacks end and their destroy
    /// notifications run, threads end.
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
        // An engine is dropped unclosed only if opening failed; no caller waits.
        if self.runtime_slot().take().is_some() {
            self.closing.send_replace(true);
            self.dispatch.send(Message::Stop);
        }
    }
}

/// Returns the error of every call after closing.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was closed")
}
