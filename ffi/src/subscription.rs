//! Events pushed into a callback.

use discover_core::embed::Subscription;

use crate::guard::release;

/// A callback that is told the events of a set, or how a connection or a registration fares.
///
/// Release: discover_subscription_cancel(). Threads: any number at once; release once.
pub struct discover_subscription {
    /// Cancelled when dropped.
    _subscription: Subscription,
}

impl discover_subscription {
    pub(crate) fn give(subscription: Subscription) -> *mut discover_subscription {
        Box::into_raw(Box::new(discover_subscription {
            _subscription: subscription,
        }))
    }
}

/// Ends a subscription and releases it. It returns at once, from any thread, from inside the callback
/// too. Called from inside, no further event follows. Called from elsewhere, one may be under way, so
/// release what the callback uses in destroy, which tells that the last is over.
///
/// subscription  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_subscription_cancel(subscription: Option<Box<discover_subscription>>) {
    release(subscription);
}
