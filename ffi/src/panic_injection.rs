//! Test-only panic injection, which shows that the boundary protects every function. Release libraries do
//! not contain it, and the header does not declare its two functions.

use std::cell::Cell;

thread_local! {
    static PENDING: Cell<bool> = const { Cell::new(false) };
}

/// cbindgen:ignore
/// Makes the next call on this thread panic.
#[unsafe(no_mangle)]
pub extern "C" fn discover_inject_panic() {
    PENDING.set(true);
}

/// cbindgen:ignore
/// Returns true if the injected panic has not occurred yet.
#[unsafe(no_mangle)]
pub extern "C" fn discover_injected_panic_is_pending() -> bool {
    PENDING.get()
}

/// Wraps `body` so that it panics first if a panic is pending.
#[allow(clippy::panic, reason = "panicking is the purpose of this module")]
pub(crate) fn wrap<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    || {
        if PENDING.replace(false) {
            std::panic::panic_any("injected panic");
        }
        body()
    }
}
