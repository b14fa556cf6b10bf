//! The one file of the core that is not safe Rust: what a forked child must know and must not keep, and which
//! signal our own threads do without.
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
use std::sync::{Mutex, Once, PoisonError, RwLock, RwLockWriteGuard};

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Written while this process forks; read by whoever no fork may interrupt.
static FORKS: RwLock<()> = RwLock::new(());

/// The descriptors to close.
static TO_CLOSE: Mutex<Option<HashSet<RawFd>>> = Mutex::new(None);

thread_local! {
    static FORKING: RefCell<Option<RwLockWriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Runs `body` so that no fork comes in between: no child finds locked what it locks, nor half done what
/// it does. For a few instructions; not to be nested.
pub fn hold_forks<R>(body: impl FnOnce() -> R) -> R {
    install();
    let _no_fork = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    body()
}

/// Another number in a forked child than in its parent, once anybody has asked. Costs one load.
#[inline]
pub(crate) fn generation() -> u32 {
    install();
    GENERATION.load(Ordering::Relaxed)
}

/// Something open that forked children do not inherit. Must not be dropped in one.
pub(crate) struct NotInherited<T: AsRawFd>(ManuallyDrop<T>);

impl<T: AsRawFd> NotInherited<T> {
    /// Opens it so that no fork can come between the opening and our knowing of it.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<NotInherited<T>> {
        hold_forks(|| {
            let opened = open()?;
            to_close(|descriptors| descriptors.insert(opened.as_raw_fd()));
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
    /// Closes it so that no fork can come between our forgetting of it and the closing.
    fn drop(&mut self) {
        hold_forks(|| {
            to_close(|descriptors| descriptors.remove(&self.0.as_raw_fd()));
            // SAFETY: it is dropped here alone, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        });
    }
}

/// From now on, what this thread writes to somebody who has hung up fails, and does not end the process. Most
/// writes to a socket ask for that themselves, but those of several pieces at once cannot. For threads that run
/// nothing but ours: how the process takes signals is left alone.
pub(crate) fn hold_sigpipe() {
    // SAFETY: the set is ours, made empty before anything else is done with it, and all pointers are to it.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
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

fn to_close<R>(body: impl FnOnce(&mut HashSet<RawFd>) -> R) -> R {
    let mut descriptors = TO_CLOSE.lock().unwrap_or_else(PoisonError::into_inner);
    body(descriptors.get_or_insert_default())
}

extern "C" fn before() {
    let guard = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    // A thread that is ending has no place for the guard any more; it then forks without.
    let _ = FORKING.try_with(|held| *held.borrow_mut() = Some(guard));
}

extern "C" fn in_parent() {
    let _ = FORKING.try_with(|held| held.borrow_mut().take());
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let forked_with_guard = FORKING.try_with(|held| held.borrow_mut().take().is_some());
    if forked_with_guard == Ok(true) {
        for descriptor in to_close(std::mem::take) {
            // SAFETY: it is ours, and nothing in this child uses it: what holds the file is left
            // alone here, not even dropped.
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

    const LONG: Duration = Duration::from_millis(100);

    #[test]
    fn a_fork_waits_until_what_it_may_not_interrupt_is_done() {
        static FORKED: AtomicBool = AtomicBool::new(false);
        static DONE: AtomicBool = AtomicBool::new(false);
        let begun = std::sync::Barrier::new(2);
        let child = thread::scope(|scope| {
            scope.spawn(|| {
                hold_forks(|| {
                    begun.wait();
                    // Long enough for a fork that does not wait.
                    thread::sleep(LONG); // tidy: sleep, what must not happen meanwhile
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
