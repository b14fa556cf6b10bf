//! The thread `discover-rt`, which drives the runtime. One thread needs no locks and no stealing between
//! several, and a change goes through less code.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety;

/// How long what blocks a thread, a file that is being written, is waited for at the end.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// The handle to the thread. It ends when this is dropped; to wait for that, `stop`.
pub(super) struct Runtime {
    handle: Handle,
    /// Hangs up to end it.
    alive: oneshot::Sender<()>,
    /// Hangs up when it is over.
    over: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Runtime {
    pub(super) fn start() -> Result<Runtime> {
        let failed = |e| {
            Error::caused_by(
                ErrorKind::Resource,
                "cannot start the thread discover-rt",
                e,
            )
        };
        let mut builder = Builder::new_current_thread();
        builder.thread_name("discover-rt").enable_all();
        // Of the threads that block on files; the one that drives is our own.
        builder.on_thread_start(fork_safety::hold_sigpipe);
        let runtime = builder.build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let (ends, over) = channel();
        let body = move || {
            fork_safety::hold_sigpipe();
            let _ = runtime.block_on(ended);
            runtime.shutdown_timeout(LEFT_OVER);
            drop(ends);
        };
        let thread = thread::Builder::new().name("discover-rt".to_owned());
        Ok(Runtime {
            handle,
            alive,
            over,
            thread: thread.spawn(body).map_err(failed)?,
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drops all tasks and ends the thread. Where one does not come back, it is not waited for.
    pub(super) fn stop(self) {
        drop(self.alive);
        if let Err(RecvTimeoutError::Disconnected) = self.over.recv_timeout(2 * LEFT_OVER) {
            // What panicked in there was caught where it happened.
            let _ = self.thread.join();
        }
    }
}
