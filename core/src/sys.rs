//! The one file of the core that is not safe Rust: what a forked child must know and must not keep.
//!
//! A lock on a file lives as long as any process holds its descriptor, a child that was only forked
//! included. So the descriptors that say "my owner lives" are closed in every child as it is born.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The descriptors to close; locked by the forking thread while it forks, so that the child finds it
/// whole.
static TO_CLOSE: Mutex<Option<HashSet<RawFd>>> = Mutex::new(None);

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, Option<HashSet<RawFd>>>>> =
        const { RefCell::new(None) };
}

/// Another number in a forked child than in its parent, once anybody has asked. Costs one load.
pub(crate) fn generation() -> u32 {
    install();
    GENERATION.load(Ordering::Relaxed)
}

/// Something open that forked children do not inherit. Must not be dropped in one.
pub(crate) struct NotInherited<T: AsRawFd>(ManuallyDrop<T>);

impl<T: AsRawFd> NotInherited<T> {
    /// Opens it so that no fork can come between the opening and our knowing of it.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<NotInherited<T>> {
        install();
        let mut descriptors = to_close();
        let opened = open()?;
        descriptors
            .get_or_insert_default()
            .insert(opened.as_raw_fd());
        Ok(NotInherited(ManuallyDrop::new(opened)))
    }
}

impl<T: AsRawFd> Deref for NotInherited<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> Drop for NotInherited<T> {
    /// Closes it so that no fork can come between our forgetting of it and the closing.
    fn drop(&mut self) {
        let mut descriptors = to_close();
        descriptors
            .get_or_insert_default()
            .remove(&self.0.as_raw_fd());
        // SAFETY: it is dropped here alone, and not used after.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

fn install() {
    static INSTALL: Once = Once::new();
    // SAFETY: the three functions are of the type asked for and live as long as the program: the
    // library is never unloaded (it is linked with `nodelete` where it is shared).
    INSTALL.call_once(|| unsafe {
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    });
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
    GENERATION.fetch_add(1, Ordering::Relaxed);
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
