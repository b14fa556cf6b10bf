//! How a connection or a registration fares, asked for or told.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use discover_core::embed::{ConnectionState, Error, Result, Subscription};

use crate::client::discover_client;
use crate::error::discover_error;
use crate::event::{UserData, discover_destroy_fn};
use crate::given::given;
use crate::guard::{Slot, call, make};
use crate::lease::{self, discover_lease};
use crate::status::{discover_status, name_of};
use crate::subscription::discover_subscription;

/// The registry answers, or has not been asked yet.
pub const DISCOVER_CONNECTION_CONNECTED: i32 = 1;
/// It does not. Sets are kept as they were, registrations live on in the registry for their TTL.
pub const DISCOVER_CONNECTION_SUSPENDED: i32 = 2;
/// It has not for the TTL that the URL says, so registrations may be gone; they are put back as soon as
/// it does. Sets are still kept.
pub const DISCOVER_CONNECTION_LOST: i32 = 3;

const NAMES: [&CStr; 3] = [c"connected", c"suspended", c"lost"];

fn number(connection: &ConnectionState) -> i32 {
    match connection {
        ConnectionState::Connected => DISCOVER_CONNECTION_CONNECTED,
        ConnectionState::Suspended(_) => DISCOVER_CONNECTION_SUSPENDED,
        ConnectionState::Lost(_) => DISCOVER_CONNECTION_LOST,
    }
}

/// Is told how something fares: state is one of the numbers that the function which was given this
/// speaks of, and reason says why it is a bad one, else it is NULL; look at it until you return.
pub type discover_state_fn =
    Option<unsafe extern "C" fn(state: i32, reason: *const discover_error, user_data: *mut c_void)>;

/// The name of the state of a connection: "connected", "suspended", "lost"; "unknown" for any other
/// number.
///
/// connection  one of DISCOVER_CONNECTION_...
///
/// Returns [borrowed, for ever].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_connection_name(connection: i32) -> *const c_char {
    name_of(connection, &NAMES)
}

/// How the connection to the registry fares now: one of DISCOVER_CONNECTION_...; 0 for NULL and in a
/// forked child. It never waits.
///
/// client  [in, borrowed]
/// reason  [out, owned, optional]  why it is suspended or lost, else NULL.
///                                 Release: discover_error_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_client_connection(
    client: Option<&discover_client>,
    reason: Option<&mut MaybeUninit<*mut discover_error>>,
) -> i32 {
    let mut state = 0;
    call(reason, || {
        let now = given(client, "client")?.engine().connection()?;
        state = number(&now);
        now.error().map_or(Ok(()), |error| Err(error.clone()))
    });
    state
}

/// Has on_state told how the connection fares, one of DISCOVER_CONNECTION_...: first how it does now,
/// then each change, on the client's callback thread. Whoever is slow may miss states in between, never
/// the last one.
///
/// client     [in, borrowed]
/// on_state                           called with each state; must not throw or longjmp
/// user_data  [in, taken, optional]   handed to on_state, and to destroy in the end
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    state; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  why it failed. Release: discover_error_free()
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
    subscribe(on_state, user_data, out, error, |listener| {
        let client = given(client, "client")?;
        client
            .engine()
            .on_connection(move |now| listener.tell(number(&now), now.error()))
    })
}

/// Has on_state told how the registration stands, one of DISCOVER_STANDING_...: first how it does now,
/// then each change, on the client's callback thread; and the same again when other attributes were
/// taken over, see discover_lease_instance(). Whoever is slow may miss standings in between, never the
/// last one; DISCOVER_STANDING_RELEASED is the last, unless the client is closed before.
///
/// lease      [in, borrowed]
/// on_state                           called with each standing; must not throw or longjmp
/// user_data  [in, taken, optional]   handed to on_state, and to destroy in the end
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    standing; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  why it failed. Release: discover_error_free()
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
    subscribe(on_state, user_data, out, error, |listener| {
        let lease = given(lease, "lease")?;
        lease
            .handle()
            .on_standing(move |now| listener.tell(lease::number(&now), now.error()))
    })
}

/// The user data was made before anything can fail: dropping it is what calls destroy.
fn subscribe(
    on_state: discover_state_fn,
    user_data: UserData,
    out: Slot<*mut discover_subscription>,
    error: Slot<*mut discover_error>,
    begin: impl FnOnce(Listener) -> Result<Subscription>,
) -> discover_status {
    make(out, error, || {
        let on_state = given(on_state, "on_state")?;
        let listener = Listener {
            on_state,
            user_data,
        };
        Ok(discover_subscription::give(begin(listener)?))
    })
}

/// Whom a subscription tells.
struct Listener {
    on_state: unsafe extern "C" fn(i32, *const discover_error, *mut c_void),
    user_data: UserData,
}

impl Listener {
    fn tell(&self, state: i32, reason: Option<&Error>) {
        let reason = reason.map(discover_error::new);
        let reason = reason.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: a function of the caller's, with the argument that came with it.
        unsafe { (self.on_state)(state, reason, self.user_data.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::embed::ErrorKind;

    #[test]
    fn states_are_named_as_everywhere() {
        let error = Error::new(ErrorKind::Unavailable, "gone");
        let all = [
            ConnectionState::Connected,
            ConnectionState::Suspended(error.clone()),
            ConnectionState::Lost(error),
        ];
        for state in all {
            // SAFETY: what is returned lives for ever.
            let name = unsafe { CStr::from_ptr(discover_connection_name(number(&state))) };
            assert_eq!(name.to_str(), Ok(state.name()));
        }
    }
}
