//! Mistakes planted on purpose, one at a time, to show that the proofs would find them.
//!
//! `planted!(NAME: wrong, right)` is `right`. Only a build with the feature `planted`, made by the test
//! that plants, contains `wrong` at all.

/// See the module.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($name:ident: $wrong:expr, $right:expr) => {
        // A call, or clippy sees a constant around which to simplify.
        std::convert::identity($right)
    };
}

/// See the module.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($name:ident: $wrong:expr, $right:expr) => {
        if $crate::planted::is_on(stringify!($name)) {
            $wrong
        } else {
            $right
        }
    };
}

pub(crate) use planted;

#[cfg(feature = "planted")]
thread_local! {
    static ON: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is made on this thread now.
#[cfg(feature = "planted")]
pub(crate) fn is_on(name: &str) -> bool {
    ON.get() == Some(name)
}

/// Makes one mistake on this thread from now on, or none.
#[cfg(feature = "planted")]
#[allow(dead_code, reason = "the tests of the machines plant")]
pub(crate) fn plant(name: Option<&'static str>) {
    ON.set(name);
}
