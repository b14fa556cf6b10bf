//! Fork and signal safety: atfork handlers, files that forked children must not inherit, and the SIGPIPE
//! mask. This is the only file of the core with unsafe code.
//!
//! A file lock lives as long as any process holds its descriptor, including a forked child. The descriptors
//! that prove that an owner is alive are therefore closed in every child right after the fork.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError, RwLock, RwLockWriteGuard};

/// Number of forks between the process that loaded the library and this process.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Held for writing while this process forks, and for reading by code that a fork must not interrupt.
static FORK_LOCK: RwLock<()> = RwLock::new(());

/// Descriptors to close in forked children.
static CLOSE_IN_CHILD: Mutex<Option<HashSet<RawFd>>> = Mutex::new(None);

thread_local! {
    static FORK_LOCK_GUARD: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Runs `body` without a fork in between, so that no child inherits its locks locked or its work half done.
/// For a few instructions only; must not be nested.
pub fn hold_forks<R>(body: impl FnOnce() -> R) -> R {
    install();
    let _no_fork = FORK_LOCK.read().unwrap_or_else(PoisonError::into_inner);
    body()
}

/// Returns the fork generation, which differs between a parent and its forked child. Costs one atomic load.
#[inline]
pub(crate) fn generation() -> u32 {
    install();
    GENERATION.load(Ordering::Relaxed)
}

/// An open file that forked children do not inherit. Must not be dropped in a forked child.
pub(crate) struct NotInherited<T: AsRawFd>(ManuallyDrop<T>);

impl<T: AsRawFd> NotInherited<T> {
    /// Opens the file and records its descriptor without a fork in between.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<NotInherited<T>> {
        hold_forks(|| {
            let opened = open()?;
            with_close_in_child(|descriptors| descriptors.insert(opened.as_raw_fd()));
            Ok(NotInherited(ManuallyDrop::new(opened)))
        })
    }
}

impl<T: AsRawFd> Deref for NotInherited<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> Drop for NotInherited<T> {
    /// Forgets the descriptor and closes the file without a fork in between.
    fn drop(&mut self) {
        hold_forks(|| {
            with_close_in_child(|descriptors| descriptors.remove(&self.0.as_raw_fd()));
            // SAFETY: the value is dropped only here and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        });
    }
}

/// Blocks SIGPIPE in this thread, so that a write to a closed connection fails and does not end the process.
/// Most socket writes suppress the signal themselves, but vectored writes cannot. For threads of the library
/// only: the signal handling of the process stays as it is.
pub(crate) fn block_sigpipe() {
    // SAFETY: the signal set is a local variable, initialised first, and all pointers are to it.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

fn install() {
    static INSTALL: Once = Once::new();
    // SAFETY: the functions have the required type and live as long as the process, because the library is
    // never unloaded (shared libraries are linked with `nodelete`).
    INSTALL.call_once(|| unsafe {
        libc::pthread_atfork(
            Some(before_fork),
            Some(after_fork_in_parent),
            Some(after_fork_in_child),
        );
    });
}

fn with_close_in_child<R>(body: impl FnOnce(&mut HashSet<RawFd>) -> R) -> R {
    let mut descriptors = CLOSE_IN_CHILD
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    body(descriptors.get_or_insert_default())
}

extern "C" fn before_fork() {
    let guard = FORK_LOCK.write().unwrap_or_else(PoisonError::into_inner);
    // A thread that is ending has no thread-local storage for the guard; it then forks without the guard.
    let _ = FORK_LOCK_GUARD.try_with(|held| *held.borrow_mut() = Some(guard));
}

extern "C" fn after_fork_in_parent() {
    let _ = FORK_LOCK_GUARD.try_with(|held| held.borrow_mut().take());
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let forked_with_guard = FORK_LOCK_GUARD.try_with(|held| held.borrow_mut().take().is_some());
    if forked_with_guard == Ok(true) {
        for descriptor in with_close_in_child(std::mem::take) {
            // SAFETY: the descriptor belongs to the library, and nothing in this child uses it; its owner is
            // not even dropped here.
            unsafe { libc::close(descriptor) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    const HOLD_TIME: Duration = Duration::from_millis(100);

    #[test]
    fn a_fork_waits_until_fork_unsafe_sections_end() {
        static FORKED: AtomicBool = AtomicBool::new(false);
        static DONE: AtomicBool = AtomicBool::new(false);
        let begun = std::sync::Barrier::new(2);
        let child = thread::scope(|scope| {
            scope.spawn(|| {
                hold_forks(|| {
                    begun.wait();
                    // Long enough for a fork that does not wait.
                    thread::sleep(HOLD_TIME); // tidy: sleep, what must not happen meanwhile
                    assert!(!FORKED.load(Ordering::SeqCst));
                    DONE.store(true, Ordering::SeqCst);
                });
            });
            begun.wait();
            // SAFETY: the child does nothing but end.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let code = i32::from(!DONE.load(Ordering::SeqCst));
                // SAFETY: it ends this process.
                unsafe { libc::_exit(code) };
            }
            FORKED.store(true, Ordering::SeqCst);
            child
        });
        let mut status = -1;
        // SAFETY: the status is ours to be written to.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child was born before it was done");
    }
}
