//! Guard against the use of a value in a forked child process.

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::generation;

/// A value that a forked child inherits but must not touch, not even to drop it. The threads of the value do
/// not exist in the child, its locks may stay locked, and its files and sockets belong to the parent.
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

    pub(super) fn belongs_to_this_process(&self) -> bool {
        self.generation == generation()
    }

    /// Returns the value, or `Forked` in a forked child.
    #[inline]
    pub(super) fn get(&self) -> Result<&T> {
        self.value
            .as_ref()
            .filter(|_| self.belongs_to_this_process())
            .ok_or_else(|| self.forked())
    }

    #[cold]
    fn forked(&self) -> Error {
        let text = format!(
            "this was opened in process {}, and this is process {}, forked from it; open a client of its own here",
            self.pid,
            std::process::id()
        );
        Error::new(ErrorKind::Forked, text)
    }

    /// Returns the value for reads of memory that are safe in a forked child.
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
        if !self.belongs_to_this_process() {
            std::mem::forget(self.value.take());
        }
    }
}
