//! The runtime thread `discover-rt`, which runs all I/O and timers. A single thread needs no locks and no
//! work stealing, and a change passes through less code.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety;

/// How long shutdown waits for tasks that block a thread, such as a file write.
const BLOCKING_TASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Handle of the runtime thread. Dropping it ends the thread; `stop` also waits.
pub(super) struct Runtime {
    handle: Handle,
    /// Dropped to end the thread.
    alive: oneshot::Sender<()>,
    /// Disconnected when the thread has ended.
    exited: Receiver<()>,
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
        // Applies to the threads for blocking tasks; the runtime thread itself is started below.
        builder.on_thread_start(fork_safety::block_sigpipe);
        let runtime = builder.build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let (ends, exited) = channel();
        let body = move || {
            fork_safety::block_sigpipe();
            let _ = runtime.block_on(ended);
            runtime.shutdown_timeout(BLOCKING_TASK_TIMEOUT);
            drop(ends);
        };
        let thread = thread::Builder::new().name("discover-rt".to_owned());
        Ok(Runtime {
            handle,
            alive,
            exited,
            thread: thread.spawn(body).map_err(failed)?,
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drops all tasks and ends the thread. Does not wait longer for a thread that does not end in time.
    pub(super) fn stop(self) {
        drop(self.alive);
        if let Err(RecvTimeoutError::Disconnected) =
            self.exited.recv_timeout(2 * BLOCKING_TASK_TIMEOUT)
        {
            // Panics were caught and reported where they happened.
            let _ = self.thread.join();
        }
    }
}
