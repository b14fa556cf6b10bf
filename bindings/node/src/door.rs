//! The doorbell: how the engine's threads tell the JavaScript thread that there is news.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use discover_core::embed::{CLOSE_TIMEOUT, Engine};
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{CleanupEnvHook, Env, Status};

use crate::error::{Result, broken};

/// Never keeps the process alive, and holds one ring at most.
type Ring = ThreadsafeFunction<(), (), Vec<u32>, Status, false, true, 1>;

/// One for each client, however many feeds ring it.
pub struct Door {
    /// The feeds that rang since JavaScript last looked: each at most once, for a feed that was not
    /// drained does not ring again.
    rung: Arc<Mutex<Vec<u32>>>,
    ring: Ring,
}

impl Door {
    /// `ring` is called on the JavaScript thread with the numbers of the feeds that rang.
    pub fn new(ring: &Function<'_, Vec<u32>, ()>) -> Result<Door> {
        let rung = Arc::<Mutex<Vec<u32>>>::default();
        let told = rung.clone();
        let ring = ring
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .max_queue_size::<1>()
            .build_callback(move |_| Ok(mem::take(&mut *lock(&told))))
            .map_err(broken)?;
        Ok(Door { rung, ring })
    }

    /// Rings as `feed`, from any thread. No JavaScript runs in here, and nobody is waited for.
    pub fn ring(&self, feed: u32) {
        lock(&self.rung).push(feed);
        // A full queue is a ring that JavaScript has yet to answer, and it will find ours there too.
        let _ = self.ring.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

fn lock(rung: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    rung.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What ties an engine to a JavaScript environment.
pub struct Attached {
    door: Arc<Door>,
    hook: CleanupEnvHook<Weak<Engine>>,
}

impl Attached {
    /// From here on the end of the environment, by itself or terminated, closes the engine. Node runs
    /// first what was asked for last, so this comes before the end of the door, which was opened
    /// before: no thread of the engine is left to ring it.
    pub fn new(
        env: &Env,
        engine: &Arc<Engine>,
        ring: &Function<'_, Vec<u32>, ()>,
    ) -> Result<Attached> {
        let door = Arc::new(Door::new(ring)?);
        let close = |engine: Weak<Engine>| {
            if let Some(engine) = engine.upgrade() {
                // Nobody is left to be told of a failure.
                let _ = engine.close(CLOSE_TIMEOUT);
            }
        };
        let hook = env.add_env_cleanup_hook(Arc::downgrade(engine), close);
        let hook = hook.map_err(broken)?;
        Ok(Attached { door, hook })
    }

    pub fn door(&self) -> Arc<Door> {
        self.door.clone()
    }

    /// For an engine that is closed.
    pub fn end(self, env: &Env) -> Result<()> {
        env.remove_env_cleanup_hook(self.hook).map_err(broken)
    }
}
