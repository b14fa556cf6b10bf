//! For tests: a bug on cue, to see that the boundary holds around every function. It is in no library
//! that anybody gets, and its two functions are not in the header.

use std::cell::Cell;

thread_local! {
    static GIVEN: Cell<bool> = const { Cell::new(false) };
}

/// cbindgen:ignore
/// Has the next call that this thread makes panic inside.
#[unsafe(no_mangle)]
pub extern "C" fn discover_cue_panic() {
    GIVEN.set(true);
}

/// cbindgen:ignore
/// Whether the cue still waits for a call that would take it.
#[unsafe(no_mangle)]
pub extern "C" fn discover_cue_waits() -> bool {
    GIVEN.get()
}

/// The same, with the bug before it.
pub(crate) fn before<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    || {
        if GIVEN.replace(false) {
            std::panic::panic_any("on cue");
        }
        body()
    }
}
