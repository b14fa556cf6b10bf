//! Mistakes planted on purpose, one at a time, to show that the proofs would find them.
//!
//! `mutant!(NAME: wrong, right)` is `right`. Only a build with the feature `planted`, made by the test
//! that plants, contains `wrong` at all.

/// See the module.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident: $wrong:expr, $right:expr) => {
        // Through a function, so that no lint sees that it is always the same.
        std::convert::identity($right)
    };
}

/// See the module.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident: $wrong:expr, $right:expr) => {
        if $crate::mutants::is_on(stringify!($name)) {
            $wrong
        } else {
            $right
        }
    };
}

pub(crate) use mutant;

#[cfg(feature = "mutants")]
thread_local! {
    static ON: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is made on this thread now.
#[cfg(feature = "mutants")]
pub(crate) fn is_on(name: &str) -> bool {
    ON.get() == Some(name)
}

/// Makes one mistake on this thread from now on, or none.
#[cfg(feature = "mutants")]
#[allow(dead_code, reason = "the tests of the machines plant")]
pub(crate) fn plant(name: Option<&'static str>) {
    ON.set(name);
}
