//! The state of a connection or a registration: reading it, and subscribing to it.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use discover_core::embed::{ConnectionState, Error, Result, Subscription};

use crate::args::Args;
use crate::client::discover_client;
use crate::error::discover_error;
use crate::event::{UserData, discover_destroy_fn};
use crate::fallible_call::{OutParam, try_call, try_create};
use crate::lease::{self, discover_lease};
use crate::status::{constant_name, discover_status};
use crate::subscription::discover_subscription;

/// The registry is responding, or has not been contacted yet.
pub const DISCOVER_CONNECTION_CONNECTED: i32 = 1;
/// The registry is not responding. Sets keep their last contents; registrations remain in the registry
/// until their TTL expires.
pub const DISCOVER_CONNECTION_SUSPENDED: i32 = 2;
/// The registry has not responded for the URL's ttl, so registrations may have expired. They are restored
/// as soon as the registry responds. Sets keep their last contents.
pub const DISCOVER_CONNECTION_LOST: i32 = 3;

const CONNECTION_NAMES: [&CStr; 3] = [c"connected", c"suspended", c"lost"];

fn connection_code(connection: &ConnectionState) -> i32 {
    match connection {
        ConnectionState::Connected => DISCOVER_CONNECTION_CONNECTED,
        ConnectionState::Suspended(_) => DISCOVER_CONNECTION_SUSPENDED,
        ConnectionState::Lost(_) => DISCOVER_CONNECTION_LOST,
    }
}

/// A callback for the state of a connection or of a registration.
///
/// state is one of DISCOVER_CONNECTION_... or DISCOVER_STANDING_..., depending on the function that took
/// the callback. reason is the error behind a bad state, else NULL; it is borrowed until the callback
/// returns.
pub type discover_state_fn =
    Option<unsafe extern "C" fn(state: i32, reason: *const discover_error, user_data: *mut c_void)>;

/// Returns the name of a connection state: "connected", "suspended", "lost"; "unknown" for any other
/// number.
///
/// connection  one of DISCOVER_CONNECTION_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_connection_name(connection: i32) -> *const c_char {
    constant_name(connection, &CONNECTION_NAMES)
}

/// Returns the current state of the connection to the registry: one of DISCOVER_CONNECTION_...; 0 for NULL
/// and in a forked child. The call does not block.
///
/// client  [in, borrowed]
/// reason  [out, owned, optional]  why the connection is suspended or lost, else NULL.
///                                 Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_client_connection(
    client: Option<&discover_client>,
    reason: Option<&mut MaybeUninit<*mut discover_error>>,
) -> i32 {
    let mut code = 0;
    try_call("discover_client_connection", reason, |args| {
        let state_now = args.required(client, "client")?.engine().connection()?;
        code = connection_code(&state_now);
        state_now.error().map_or(Ok(()), |error| Err(error.clone()))
    });
    code
}

/// Subscribes a callback to the state of the connection: one of DISCOVER_CONNECTION_...
///
/// The callback receives the current state first and then each change. A slow callback may miss
/// intermediate states, but never the latest one.
///
/// client     [in, borrowed]
/// on_state                           called with each state on the callback thread; must not throw or
///                                    longjmp
/// user_data  [in, taken, optional]   passed to on_state, and finally to destroy
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    state; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  the failure. Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_client_on_connection(
    client: Option<&discover_client>,
    on_state: discover_state_fn,
    user_data: *mut c_void,
    destroy: discover_destroy_fn,
    out: Option<&mut MaybeUninit<*mut discover_subscription>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let user_data = UserData::new(user_data, destroy);
    subscribe_state(
        "discover_client_on_connection",
        on_state,
        user_data,
        out,
        error,
        |args, callback| {
            let client = args.required(client, "client")?;
            client
                .engine()
                .on_connection(move |now| callback.deliver(connection_code(&now), now.error()))
        },
    )
}

/// Subscribes a callback to the standing of a registration: one of DISCOVER_STANDING_...
///
/// The callback receives the current standing first and then each change. It is called again with the same
/// standing when the lease adopts other attributes, see discover_lease_instance(). A slow callback may
/// miss intermediate standings, but never the latest one. DISCOVER_STANDING_RELEASED is the last standing,
/// unless the client is closed first.
///
/// lease      [in, borrowed]
/// on_state                           called with each standing on the callback thread; must not throw
///                                    or longjmp
/// user_data  [in, taken, optional]   passed to on_state, and finally to destroy
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    standing; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_CLOSED if the client is closed.
#[unsafe(no_mangle)]
pub extern "C" fn discover_lease_on_standing(
    lease: Option<&discover_lease>,
    on_state: discover_state_fn,
    user_data: *mut c_void,
    destroy: discover_destroy_fn,
    out: Option<&mut MaybeUninit<*mut discover_subscription>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    let user_data = UserData::new(user_data, destroy);
    subscribe_state(
        "discover_lease_on_standing",
        on_state,
        user_data,
        out,
        error,
        |args, callback| {
            let lease = args.required(lease, "lease")?;
            lease
                .handle()
                .on_standing(move |now| callback.deliver(lease::standing_code(&now), now.error()))
        },
    )
}

/// Subscribes a callback. `user_data` is created before anything can fail, because dropping it calls destroy.
fn subscribe_state(
    function: &'static str,
    on_state: discover_state_fn,
    user_data: UserData,
    out: OutParam<*mut discover_subscription>,
    error: OutParam<*mut discover_error>,
    subscribe: impl FnOnce(Args, StateCallback) -> Result<Subscription>,
) -> discover_status {
    try_create(function, out, error, |args| {
        let on_state = args.required(on_state, "on_state")?;
        let callback = StateCallback {
            on_state,
            user_data,
        };
        Ok(discover_subscription::owned_ptr(subscribe(args, callback)?))
    })
}

/// The callback of a subscription, with its user data.
struct StateCallback {
    on_state: unsafe extern "C" fn(i32, *const discover_error, *mut c_void),
    user_data: UserData,
}

impl StateCallback {
    fn deliver(&self, state: i32, reason: Option<&Error>) {
        let reason = reason.map(discover_error::new);
        let reason = reason.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the callback and its argument come from the caller.
        unsafe { (self.on_state)(state, reason, self.user_data.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::embed::ErrorKind;

    #[test]
    fn states_are_have_the_names_of_the_core() {
        let error = Error::new(ErrorKind::Unavailable, "lost");
        let all = [
            ConnectionState::Connected,
            ConnectionState::Suspended(error.clone()),
            ConnectionState::Lost(error),
        ];
        for state in all {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_connection_name(connection_code(&state))) };
            assert_eq!(name.to_str(), Ok(state.name()));
        }
    }
}
