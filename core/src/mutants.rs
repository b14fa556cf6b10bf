//! Mutants: deliberate mistakes, enabled one at a time, to show that the model tests detect them.
//!
//! `mutant!(NAME: wrong, right)` evaluates to `right`. Only a build with the feature `mutants`, made by the
//! test that enables mutants, contains `wrong`.

/// Evaluates to the right expression.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident: $wrong:expr, $right:expr) => {
        // Through a function, so that no lint sees a constant.
        std::convert::identity($right)
    };
}

/// Evaluates to the wrong expression if the mutant is enabled on this thread.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident: $wrong:expr, $right:expr) => {
        if $crate::mutants::is_enabled(stringify!($name)) {
            $wrong
        } else {
            $right
        }
    };
}

pub(crate) use mutant;

#[cfg(feature = "mutants")]
thread_local! {
    static ENABLED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Returns true if the mutant is enabled on this thread.
#[cfg(feature = "mutants")]
pub(crate) fn is_enabled(name: &str) -> bool {
    ENABLED.get() == Some(name)
}

/// Enables one mutant on this thread, or none.
#[cfg(feature = "mutants")]
#[allow(dead_code, reason = "only the model tests enable mutants")]
pub(crate) fn enable(name: Option<&'static str>) {
    ENABLED.set(name);
}
