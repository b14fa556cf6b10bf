//! What belongs to the process that made it.

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::generation;

/// A value that a forked child inherits but must not touch, not even to drop it: its threads did not
/// come along, its locks may be held by them for ever, and its files and sockets are the parent's.
pub(super) struct ForkGuard<T> {
    generation: u32,
    pid: u32,
    value: Option<T>,
}

impl<T> ForkGuard<T> {
    pub(super) fn new(value: T) -> ForkGuard<T> {
        ForkGuard {
            generation: generation(),
            pid: std::process::id(),
            value: Some(value),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.generation == generation()
    }

    /// The value, in the process that made it.
    pub(super) fn get(&self) -> Result<&T> {
        let forked = || {
            Error::new(
                ErrorKind::Forked,
                format!(
                    "this was opened in process {}, and this is process {}, forked from it; open a \
                     client of its own here",
                    self.pid,
                    std::process::id()
                ),
            )
        };
        self.value
            .as_ref()
            .filter(|_| self.is_ours())
            .ok_or_else(forked)
    }

    /// The value, for reads that are only of memory.
    pub(super) fn peek(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("only drop takes the value"),
        }
    }

    pub(super) fn peek_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("only drop takes the value"),
        }
    }
}

impl<T> Drop for ForkGuard<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget(self.value.take());
        }
    }
}
