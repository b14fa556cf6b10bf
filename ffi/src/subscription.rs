//! Subscriptions of callbacks.

use discover_core::embed::Subscription;

use crate::boundary::release;

/// A callback subscribed to the events of a set, or to the state of a connection or a registration.
///
/// Release: discover_subscription_cancel(). Threads: any number at once; release once.
pub struct discover_subscription {
    /// Cancelled when dropped.
    _subscription: Subscription,
}

impl discover_subscription {
    pub(crate) fn owned_ptr(subscription: Subscription) -> *mut discover_subscription {
        Box::into_raw(Box::new(discover_subscription {
            _subscription: subscription,
        }))
    }
}

/// Ends a subscription and releases it. The call returns at once, from any thread, including from inside
/// the callback.
///
/// When called inside the callback, no further call follows. When called elsewhere, one call may still be
/// running, so release the callback's resources in destroy, which is called after the last one.
///
/// subscription  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_subscription_cancel(subscription: Option<Box<discover_subscription>>) {
    release(subscription);
}
