//! The one file of the core that is not safe Rust: what must not be inherited by a forked child.
//!
//! A lock on a file lives as long as any process holds its descriptor, a child that was only forked
//! included. So the descriptors that say "my owner lives" are closed in every child as it is born.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The descriptors to close; locked by the forking thread while it forks, so that the child finds it
/// whole.
static TO_CLOSE: Mutex<Option<HashSet<RawFd>>> = Mutex::new(None);

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, Option<HashSet<RawFd>>>>> =
        const { RefCell::new(None) };
}

/// Keeps a file from being inherited by forked children, while it is held.
pub(crate) struct NotInherited(RawFd);

impl NotInherited {
    /// `file` must be closed after this is dropped, in the process that made it, and never in a child.
    pub(crate) fn new(file: &File) -> NotInherited {
        static INSTALL: Once = Once::new();
        // SAFETY: the three functions are of the type asked for and live as long as the program: the
        // library is never unloaded (it is linked with `nodelete` where it is shared).
        INSTALL.call_once(|| unsafe {
            libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
        });
        let descriptor = file.as_raw_fd();
        to_close().get_or_insert_default().insert(descriptor);
        NotInherited(descriptor)
    }
}

impl Drop for NotInherited {
    fn drop(&mut self) {
        to_close().get_or_insert_default().remove(&self.0);
    }
}

fn to_close() -> MutexGuard<'static, Option<HashSet<RawFd>>> {
    TO_CLOSE.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before() {
    let guard = to_close();
    // A thread that is ending has no place for the guard any more; it then forks without.
    let _ = FORKING.try_with(|held| *held.borrow_mut() = Some(guard));
}

extern "C" fn in_parent() {
    let _ = FORKING.try_with(|held| held.borrow_mut().take());
}

extern "C" fn in_child() {
    let _ = FORKING.try_with(|held| {
        if let Some(mut descriptors) = held.borrow_mut().take() {
            for descriptor in descriptors.take().into_iter().flatten() {
                // SAFETY: it is ours, and nothing in this child uses it: what holds the file is
                // left alone here, not even dropped.
                unsafe { libc::close(descriptor) };
            }
        }
    });
}
