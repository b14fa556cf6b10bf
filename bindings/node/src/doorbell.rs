//! Wake-ups of the JavaScript thread by the engine's threads.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use discover_core::embed::{CLOSE_TIMEOUT, Engine};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{CleanupEnvHook, Env, Status};

use crate::error::{Result, internal_error};

/// A JavaScript callback that does not keep the process alive. Its queue has room for one call.
type RingCallback = ThreadsafeFunction<(), (), Vec<u32>, Status, false, true, 1>;

/// The doorbell of a client, shared by all of the client's feeds.
pub struct Doorbell {
    /// The feeds that rang since JavaScript last took the list. Each occurs at most once, because a feed rings
    /// again only after it was drained.
    rung_feeds: Arc<Mutex<Vec<u32>>>,
    callback: RingCallback,
}

impl Doorbell {
    /// Creates a doorbell that calls `callback` on the JavaScript thread with the ids of the feeds that rang.
    pub fn new(callback: &Function<'_, Vec<u32>, ()>) -> Result<Doorbell> {
        let rung_feeds = Arc::<Mutex<Vec<u32>>>::default();
        let pending = rung_feeds.clone();
        let callback = callback
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .max_queue_size::<1>()
            .build_callback(move |_| Ok(mem::take(&mut *lock(&pending))))
            .map_err(internal_error)?;
        Ok(Doorbell {
            rung_feeds,
            callback,
        })
    }

    /// Rings for the feed `feed_id`, from any thread. Runs no JavaScript and does not block.
    pub fn ring(&self, feed_id: u32) {
        lock(&self.rung_feeds).push(feed_id);
        // If the queue is full, the queued call finds this feed in the list too.
        let _ = self
            .callback
            .call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

fn lock(rung_feeds: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    rung_feeds.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The attachment of an engine to a JavaScript environment: the doorbell and the cleanup hook.
pub struct Attachment {
    doorbell: Arc<Doorbell>,
    hook: CleanupEnvHook<Weak<Engine>>,
}

impl Attachment {
    /// Attaches `engine` to the environment `env`, whose end then closes the engine.
    ///
    /// Node runs cleanup hooks in reverse order. The hook is added after the doorbell was created, so the engine
    /// is closed before the doorbell is destroyed, and no engine thread rings it afterwards.
    pub fn new(
        env: &Env,
        engine: &Arc<Engine>,
        callback: &Function<'_, Vec<u32>, ()>,
    ) -> Result<Attachment> {
        let doorbell = Arc::new(Doorbell::new(callback)?);
        let close = |engine: Weak<Engine>| {
            if let Some(engine) = engine.upgrade() {
                // The environment ends: a failure has no receiver.
                let _ = engine.close(CLOSE_TIMEOUT);
            }
        };
        let hook = env.add_env_cleanup_hook(Arc::downgrade(engine), close);
        let hook = hook.map_err(internal_error)?;
        Ok(Attachment { doorbell, hook })
    }

    pub fn doorbell(&self) -> Arc<Doorbell> {
        self.doorbell.clone()
    }

    /// Removes the cleanup hook. The engine must be closed.
    pub fn detach(self, env: &Env) -> Result<()> {
        env.remove_env_cleanup_hook(self.hook)
            .map_err(internal_error)
    }
}
