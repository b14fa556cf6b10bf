//! Subscriptions: events of a set, or states of a connection or lease, pushed to a callback.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{BoxStream, StreamExt};

use crate::embed::callback_loop::Flags;
use crate::embed::callback_registration::{
    CallbackNotifier, CallbackRegistration, notify_on_change,
};
use crate::embed::callback_thread::Sink;
use crate::embed::engine_state::EngineState;
use crate::embed::fork_guard::ForkGuard;
use crate::error::Result;
use crate::set::ServiceSet;

/// Subscription that pushes events to a sink. Dropping it cancels it.
pub struct Subscription(ForkGuard<CallbackRegistration>);

impl Subscription {
    pub(super) fn new(
        shared: Arc<EngineState>,
        set: &ServiceSet,
        mut sink: Box<dyn Sink>,
    ) -> Result<Subscription> {
        let mut cursor = set.cursor();
        let callback = move |flags: &Flags| {
            flags.acknowledge();
            sink.events(&cursor.drain(), &|| !flags.is_cancelled());
        };
        let registration =
            CallbackRegistration::open(shared, Box::new(callback), |notifier, runtime| {
                notify_on_change(set, move || notifier.wake(), runtime)
            })?;
        Ok(Subscription(ForkGuard::new(registration)))
    }

    /// Calls `callback` with the latest item of `states`. The callback is also dropped when the stream ends.
    pub(super) fn to_states<T: Send + 'static>(
        shared: Arc<EngineState>,
        mut states: BoxStream<'static, T>,
        mut callback: impl FnMut(T) + Send + 'static,
    ) -> Result<Subscription> {
        let latest = Arc::new(Mutex::new(None));
        let taken = latest.clone();
        let take = move || taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let callback = move |flags: &Flags| {
            flags.acknowledge();
            if let Some(state) = take().filter(|_| !flags.is_cancelled()) {
                callback(state);
            }
        };
        let pump = |notifier: CallbackNotifier| async move {
            while let Some(state) = states.next().await {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                notifier.wake();
            }
            notifier.remove();
        };
        let registration =
            CallbackRegistration::open(shared, Box::new(callback), |notifier, runtime| {
                let pump = runtime.spawn(pump(notifier)).abort_handle();
                Box::new(move || pump.abort())
            })?;
        Ok(Subscription(ForkGuard::new(registration)))
    }

    /// Cancels the subscription. Returns at once, also inside the callback. No callback starts afterwards,
    /// except one that another thread is about to start. The sink is dropped after the last call.
    pub fn cancel(&self) {
        if let Ok(registration) = self.0.get() {
            registration.cancel();
        }
    }
}
