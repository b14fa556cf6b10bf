//! Callbacks that receive a set's events, or the status of a connection or registration.

use std::sync::{Arc, OnceLock};

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass_init::PyClassInitializer;

use discover_core::embed::{self, SetHandle};

use crate::callback::Callback;
use crate::errors::into_py_err;
use crate::event::Event;
use crate::interpreter_exit;
use crate::owner::Owner;

/// A callback that receives every change until it is cancelled or its client is closed.
///
/// The callback stays subscribed even if this object is dropped. In a `with` block, the subscription is cancelled at
/// the end of the block.
///
/// Threads: any number at once.
#[pyclass(frozen, module = "libdiscover")]
pub(crate) struct Subscription(Arc<OnceLock<embed::Subscription>>);

impl Subscription {
    /// Subscribes `callback` to the events of a set.
    pub(crate) fn to_events(
        set: &SetHandle,
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
    ) -> PyResult<Subscription> {
        Subscription::open(owner, callback, false, |sink| set.subscribe(Box::new(sink)))
    }

    /// Subscribes `callback` to statuses: `subscribe` passes the sink to the core. If `end` is set, the callback
    /// receives None when the subscription ends.
    pub(crate) fn to_statuses(
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
        end: bool,
        subscribe: impl FnOnce(CallbackSink) -> embed::Result<embed::Subscription>,
    ) -> PyResult<Subscription> {
        Subscription::open(owner, callback, end, subscribe)
    }

    fn open(
        owner: Arc<Owner>,
        callback: Bound<'_, PyAny>,
        end: bool,
        subscribe: impl FnOnce(CallbackSink) -> embed::Result<embed::Subscription>,
    ) -> PyResult<Subscription> {
        let py = callback.py();
        if !callback.is_callable() {
            let text = format!("callback is {}; it must be callable", callback.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        let own_subscription = Arc::new(OnceLock::new());
        let sink = CallbackSink {
            callback: Callback::new(callback),
            end,
            _keep_alive: (own_subscription.clone(), owner),
        };
        let subscription = subscribe(sink).map_err(into_py_err(py))?;
        let _ = own_subscription.set(subscription);
        Ok(Subscription(own_subscription))
    }
}

#[pymethods]
impl Subscription {
    /// Cancels the subscription. Never waits.
    ///
    /// May be called from any thread and inside the callback. If it is called from another thread, one last call of the
    /// callback may still be running.
    fn cancel(&self) {
        if let Some(subscription) = self.0.get() {
            subscription.cancel();
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyAny>) {
        self.cancel();
    }
}

/// Passes events and statuses to a Python function, on the callback thread. Keeps its own subscription and the client
/// alive, so that the callback continues when the program drops both.
pub(crate) struct CallbackSink {
    callback: Callback,
    /// Whether the callback receives None at the end.
    end: bool,
    _keep_alive: (Arc<OnceLock<embed::Subscription>>, Arc<Owner>),
}

impl CallbackSink {
    /// Calls the function with a Python object made of `value`.
    pub(crate) fn call<T>(&self, value: T)
    where
        T: PyClass + Into<PyClassInitializer<T>>,
    {
        self.callback.call(|py| Ok((Py::new(py, value)?,)));
    }
}

impl Drop for CallbackSink {
    fn drop(&mut self) {
        if self.end {
            self.callback.call(|py| Ok((py.None(),)));
        }
    }
}

impl embed::Sink for CallbackSink {
    fn event(&mut self, event: &embed::Event) {
        self.events(std::slice::from_ref(event), &|| true);
    }

    /// Delivers several events in one attachment: attaching a foreign thread to the interpreter costs more than a call.
    fn events(&mut self, events: &[embed::Event], goes_on: &dyn Fn() -> bool) {
        interpreter_exit::attach(|py| {
            for event in events {
                if !goes_on() || interpreter_exit::are_callbacks_refused() {
                    return;
                }
                let object = Py::new(py, Event::new(event.clone()));
                self.callback.call_attached(py, |_| Ok((object?,)));
            }
        });
    }
}
