//! Live sets of the instances of a service.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use discover_core::embed::{Policy, SetHandle, SetState};

use crate::args::{c_string, equals, timeout_from_ms};
use crate::boundary::{release, value_or};
use crate::error::discover_error;
use crate::event::{EventCallback, UserData, discover_destroy_fn, discover_event_fn};
use crate::fallible_call::try_create;
use crate::feed::discover_feed;
use crate::instance::discover_instance;
use crate::snapshot::discover_snapshot;
use crate::status::{constant_name, discover_status};
use crate::subscription::discover_subscription;

/// The live set of the instances of one service, optionally restricted by a filter.
///
/// Reading a set uses memory only: it never accesses the network and never blocks. If the connection to
/// the registry is lost, the set keeps its last contents and becomes stale. In a forked child the set of the
/// parent cannot be read, except for its name.
///
/// Release: discover_set_release(). Threads: any number at once.
pub struct discover_set {
    set: SetHandle,
    service: CString,
}

impl discover_set {
    pub(crate) fn owned_ptr(set: SetHandle) -> *mut discover_set {
        let service = c_string(set.service().as_str());
        Box::into_raw(Box::new(discover_set { set, service }))
    }

    pub(crate) fn handle(&self) -> &SetHandle {
        &self.set
    }
}

/// No data has been received yet.
pub const DISCOVER_STATE_PENDING: i32 = 1;
/// The set matches the registry.
pub const DISCOVER_STATE_CURRENT: i32 = 2;
/// The connection to the registry is lost; the set shows its last known contents.
pub const DISCOVER_STATE_STALE: i32 = 3;

const STATE_NAMES: [&CStr; 3] = [c"pending", c"current", c"stale"];

fn state_code(state: SetState) -> i32 {
    match state {
        SetState::Pending => DISCOVER_STATE_PENDING,
        SetState::Current => DISCOVER_STATE_CURRENT,
        SetState::Stale => DISCOVER_STATE_STALE,
    }
}

/// Returns the name of a set state: "pending", "current", "stale"; "unknown" for any other number.
///
/// state  one of DISCOVER_STATE_...
///
/// Returns [borrowed, never released].
///
/// Threads: from any.
#[unsafe(no_mangle)]
pub extern "C" fn discover_state_name(state: i32) -> *const c_char {
    constant_name(state, &STATE_NAMES)
}

/// Returns the service name; NULL for NULL.
///
/// set  [in, borrowed]
///
/// Returns [borrowed until the set is released].
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_service(set: Option<&discover_set>) -> *const c_char {
    value_or(ptr::null(), || Some(set?.service.as_ptr()))
}

/// Returns the state of the set: one of DISCOVER_STATE_...; 0 for NULL and in a forked child. A snapshot has the
/// cause and the start of staleness.
///
/// set  [in, borrowed]
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_state(set: Option<&discover_set>) -> i32 {
    value_or(0, || Some(state_code(set?.set.status().ok()?.state)))
}

/// Opens the set of the instances that have all given attributes, with these values, and all given tags.
/// Filters of a filtered set are combined.
///
/// set              [in, borrowed]
/// names            [in, borrowed, optional]  attribute names; may be NULL if attribute_count is 0
/// values           [in, borrowed, optional]  their values, in the order of names; may be NULL if
///                                            attribute_count is 0
/// attribute_count                            the number of attributes
/// tags             [in, borrowed, optional]  tags; may be NULL if tag_count is 0
/// tag_count                                  the number of tags
/// out              [out, owned]              the narrower set; NULL on failure.
///                                            Release: discover_set_release()
/// error            [out, owned, optional]    the failure. Release: discover_error_free()
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_set_filter(
    set: Option<&discover_set>,
    names: *const *const c_char,
    values: *const *const c_char,
    attribute_count: usize,
    tags: *const *const c_char,
    tag_count: usize,
    out: Option<&mut MaybeUninit<*mut discover_set>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_set_filter", out, error, |args| {
        let set = args.required(set, "set")?;
        // SAFETY: the header requires arrays of `count` NUL-terminated strings.
        let attributes = unsafe { args.attributes(names, values, attribute_count) }?;
        // SAFETY: as above.
        let tags = unsafe { args.text_array(tags, tag_count, "tags") }?;
        let tags = tags.into_iter().map(str::to_owned).collect();
        Ok(discover_set::owned_ptr(set.set.filter(attributes, tags)?))
    })
}

/// Returns a snapshot of the current contents of a set. No data is copied.
///
/// set  [in, borrowed]
///
/// Returns [owned], NULL for NULL and in a forked child. Release: discover_snapshot_free()
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_take_snapshot(set: Option<&discover_set>) -> *mut discover_snapshot {
    value_or(ptr::null_mut(), || {
        Some(discover_snapshot::owned_ptr(set?.set.snapshot().ok()?))
    })
}

/// Blocks until at least count instances are online. With count 0 it blocks until the first data is
/// received.
///
/// set         [in, borrowed]
/// count                               the minimum number of instances
/// timeout_ms                          how long to block, in milliseconds, or DISCOVER_NO_TIMEOUT
/// out         [out, owned]            a snapshot taken when the call ends; NULL on failure.
///                                     Release: discover_snapshot_free()
/// error       [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_TIMEOUT if there were too few instances in time, DISCOVER_ERR_CLOSED if the client
/// is closed.
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_wait(
    set: Option<&discover_set>,
    count: usize,
    timeout_ms: u32,
    out: Option<&mut MaybeUninit<*mut discover_snapshot>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_set_wait", out, error, |args| {
        let within = timeout_from_ms(timeout_ms).unwrap_or(Duration::MAX);
        let pending = args.required(set, "set")?.set.wait(count, within)?;
        Ok(discover_snapshot::owned_ptr(pending.wait()?))
    })
}

/// Picks an instance that is online according to a load-balancing policy. The call does not block and
/// allocates no memory.
///
/// Instances of weight 0 are picked only if all candidates have weight 0. Apart from that, "round_robin" and "random"
/// do not regard weights.
///
///   "round_robin"  each instance in turn, oldest first
///   "random"       any, with equal probability
///   "weighted"     any, with a probability in proportion to its weight
///   "p2c"          of two random instances the less busy one for its weight (power of two choices);
///                  discover_set_done() reports the end of the call to it
///   "hash"         the same instance for the same key, with as few moves as possible when the set
///                  changes
///
/// set     [in, borrowed]
/// policy  [in, borrowed]            one of the names above
/// key     [in, borrowed, optional]  the key of "hash"; NULL for the other policies
/// out     [out, owned]              the instance; NULL on failure, and with DISCOVER_OK if there is no
///                                   candidate. Release: discover_instance_free()
/// error   [out, owned, optional]    the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_INVALID_ARGUMENT for an unknown policy, "hash" without a key, or a key with
/// another policy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn discover_set_pick(
    set: Option<&discover_set>,
    policy: *const c_char,
    key: *const c_char,
    out: Option<&mut MaybeUninit<*mut discover_instance>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_set_pick", out, error, |args| {
        let set = &args.required(set, "set")?.set;
        // SAFETY: the header requires NUL-terminated strings.
        let picked = match unsafe { (equals(policy, c"round_robin"), key.is_null()) } {
            // The most common policy skips the UTF-8 check, for speed.
            (true, true) => set.pick(Policy::RoundRobin)?,
            // SAFETY: as above.
            _ => unsafe {
                let (policy, key) = (
                    args.text(policy, "policy")?,
                    args.optional_text(key, "key")?,
                );
                set.pick(Policy::parse(policy, key)?)?
            },
        };
        Ok(picked.map_or(ptr::null_mut(), discover_instance::owned_ptr))
    })
}

/// Reports that the call to an instance picked by "p2c" is over.
///
/// set       [in, borrowed]  NULL does nothing
/// instance  [in, borrowed]  NULL does nothing
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_done(
    set: Option<&discover_set>,
    instance: Option<&discover_instance>,
) {
    value_or((), || set?.set.done(instance?.value()).ok());
}

/// Subscribes a callback to the events of a set.
///
/// The callback receives the full state first, then DISCOVER_EVENT_CURRENT, then every change. A slow
/// callback may miss intermediate states, but never the latest one.
///
/// set        [in, borrowed]
/// on_event                           called with each event on the callback thread; must not throw or
///                                    longjmp
/// user_data  [in, taken, optional]   passed to on_event, and finally to destroy
/// destroy                            called exactly once, whatever the result: on failure before the
///                                    call returns, otherwise on the callback thread after the last
///                                    event; may be NULL
/// out        [out, owned]            the subscription; NULL on failure.
///                                    Release: discover_subscription_cancel()
/// error      [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_CLOSED if the client is closed.
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_subscribe(
    set: Option<&discover_set>,
    on_event: discover_event_fn,
    user_data: *mut c_void,
    destroy: discover_destroy_fn,
    out: Option<&mut MaybeUninit<*mut discover_subscription>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    // Created before anything can fail, because dropping it calls destroy.
    let user_data = UserData::new(user_data, destroy);
    try_create("discover_set_subscribe", out, error, |args| {
        let on_event = args.required(on_event, "on_event")?;
        let callback = EventCallback {
            on_event,
            user_data,
        };
        let subscription = args
            .required(set, "set")?
            .set
            .subscribe(Box::new(callback))?;
        Ok(discover_subscription::owned_ptr(subscription))
    })
}

/// Opens a feed of the events of a set, for a program with its own event loop. The events are those of
/// discover_set_subscribe().
///
/// set    [in, borrowed]
/// out    [out, owned]            the feed; NULL on failure. Release: discover_feed_cancel()
/// error  [out, owned, optional]  the failure. Release: discover_error_free()
///
/// Errors: DISCOVER_ERR_CLOSED if the client is closed, DISCOVER_ERR_RESOURCE if there is no file
/// descriptor left.
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_feed(
    set: Option<&discover_set>,
    out: Option<&mut MaybeUninit<*mut discover_feed>>,
    error: Option<&mut MaybeUninit<*mut discover_error>>,
) -> discover_status {
    try_create("discover_set_feed", out, error, |args| {
        discover_feed::owned_ptr(&args.required(set, "set")?.set)
    })
}

/// Releases a set. Its subscriptions and feeds stay active until they are released themselves.
///
/// set  [in, taken, optional]
#[unsafe(no_mangle)]
pub extern "C" fn discover_set_release(set: Option<Box<discover_set>>) {
    release(set);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_have_the_names_of_the_core() {
        for state in [SetState::Pending, SetState::Current, SetState::Stale] {
            // SAFETY: the returned name is static.
            let name = unsafe { CStr::from_ptr(discover_state_name(state_code(state))) };
            assert_eq!(name.to_str(), Ok(state.name()));
        }
    }
}
