//! The gate between news and callbacks, in every order in which its threads may run (G10, G19): the
//! source of the library itself, on atomics and a mailbox that try them all.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

mod sync {
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, Ordering};

    pub use super::mailbox::Receiver;
}

/// A mailbox as the standard library's, which loom's own is not once one end is gone.
mod mailbox {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::mpsc::{RecvError, SendError};

    use loom::sync::{Condvar, Mutex};

    struct Inside<T> {
        letters: VecDeque<T>,
        senders: usize,
        is_read: bool,
    }

    type SharedAttributes<T> = Arc<(Mutex<Inside<T>>, Condvar)>;

    pub struct Sender<T>(SharedAttributes<T>);
    pub struct Receiver<T>(SharedAttributes<T>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let inside = Inside {
            letters: VecDeque::new(),
            senders: 1,
            is_read: true,
        };
        let shared = Arc::new((Mutex::new(inside), Condvar::new()));
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub fn send(&self, letter: T) -> Result<(), SendError<T>> {
            let mut inside = self.0.0.lock().unwrap();
            if !inside.is_read {
                return Err(SendError(letter));
            }
            inside.letters.push_back(letter);
            self.0.1.notify_one();
            Ok(())
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Sender<T> {
            self.0.0.lock().unwrap().senders += 1;
            Sender(self.0.clone())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.0.lock().unwrap().senders -= 1;
            self.0.1.notify_one();
        }
    }

    impl<T> Receiver<T> {
        pub fn recv(&self) -> Result<T, RecvError> {
            let mut inside = self.0.0.lock().unwrap();
            loop {
                if let Some(letter) = inside.letters.pop_front() {
                    return Ok(letter);
                }
                if inside.senders == 0 {
                    return Err(RecvError);
                }
                inside = self.0.1.wait(inside).unwrap();
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut inside = self.0.0.lock().unwrap();
            inside.is_read = false;
            let unread = std::mem::take(&mut inside.letters);
            // What they own may look at the mailbox as it goes.
            drop(inside);
            drop(unread);
        }
    }
}

#[path = "../src/embed/dispatch_loop.rs"]
mod dispatch_loop;

use dispatch_loop::{Flags, Message, run};
use mailbox::{Sender, channel};

const LISTENER: u64 = 1;

/// A listener and what happened to it.
struct Story {
    flags: loom::sync::Arc<Flags>,
    /// What there is to be told: the snapshot of a set.
    state: AtomicUsize,
    told: AtomicUsize,
    calls: AtomicUsize,
    drops: AtomicUsize,
    calls_when_dropped: AtomicUsize,
}

/// Dropped with the listener that holds it, as the `user_data` of a subscription is.
struct Owned(Arc<Story>);

impl Drop for Owned {
    fn drop(&mut self) {
        let calls = self.0.calls.load(Ordering::Acquire);
        self.0.calls_when_dropped.store(calls, Ordering::Release);
        self.0.drops.fetch_add(1, Ordering::AcqRel);
    }
}

impl Story {
    fn new() -> Arc<Story> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Story {
            flags: loom::sync::Arc::new(Flags::new()),
            state: zero(),
            told: zero(),
            calls: zero(),
            drops: zero(),
            calls_when_dropped: zero(),
        })
    }

    /// As a subscription listens: answer, look, and tell unless cancelled.
    fn listener(self: &Arc<Story>) -> Message {
        let owned = Owned(self.clone());
        let listen = move |flags: &Flags| {
            let story = &owned.0;
            flags.answer();
            let state = story.state.load(Ordering::Acquire);
            if state != story.told.load(Ordering::Acquire) && !flags.is_cancelled() {
                story.calls.fetch_add(1, Ordering::AcqRel);
                story.told.store(state, Ordering::Release);
            }
        };
        Message::Add(LISTENER, Box::new(listen), self.flags.clone())
    }

    /// As a pump does: the state first, then the ring.
    fn publish(&self, state: usize, mailbox: &Sender<Message>) {
        self.state.store(state, Ordering::Release);
        if self.flags.ring() {
            let _ = mailbox.send(Message::Ring(LISTENER));
        }
    }

    fn cancel(&self, mailbox: &Sender<Message>) {
        if self.flags.cancel() {
            let _ = mailbox.send(Message::Remove(LISTENER));
        }
    }

    fn told(&self) -> usize {
        self.told.load(Ordering::Acquire)
    }

    /// Dropped once, and never called after.
    fn check_end(&self) {
        assert_eq!(self.drops.load(Ordering::Acquire), 1, "dropped once");
        let (at_drop, calls) = (&self.calls_when_dropped, &self.calls);
        assert_eq!(
            at_drop.load(Ordering::Acquire),
            calls.load(Ordering::Acquire)
        );
    }
}

/// Runs in every order, with at most this many switches that no thread asked for.
fn every_order(switches: usize, story: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(story);
}

/// The dispatch thread, which ends when its mailbox is closed or told to stop.
fn dispatch() -> (Sender<Message>, thread::JoinHandle<()>) {
    let (mailbox, inbox) = channel();
    (mailbox, thread::spawn(move || run(&inbox)))
}

#[test]
fn the_last_state_is_always_told() {
    every_order(4, || {
        let (mailbox, thread) = dispatch();
        let story = Story::new();
        assert!(mailbox.send(story.listener()).is_ok());
        story.publish(1, &mailbox);
        story.publish(2, &mailbox);
        story.publish(3, &mailbox);
        drop(mailbox);
        thread.join().unwrap();
        assert_eq!(story.told(), 3);
        story.check_end();
    });
}

/// A feed: the bell only says that there is something, and the user drains from a thread of its own.
#[test]
fn a_feed_that_is_drained_elsewhere_misses_no_bell() {
    every_order(3, || {
        let (mailbox, thread) = dispatch();
        let story = Story::new();
        let (bell, rings) = channel();
        let ring = move |_: &Flags| bell.send(()).unwrap_or_default();
        let flags = story.flags.clone();
        let added = Message::Add(LISTENER, Box::new(ring), flags.clone());
        assert!(mailbox.send(added).is_ok());
        let (drained, read) = (flags, story.clone());
        let user = thread::spawn(move || {
            // Waits for ever, which is found, where a bell is missing.
            while read.told() != 2 {
                rings.recv().unwrap();
                drained.answer();
                let state = read.state.load(Ordering::Acquire);
                read.told.store(state, Ordering::Release);
            }
        });
        story.publish(1, &mailbox);
        story.publish(2, &mailbox);
        user.join().unwrap();
        drop(mailbox);
        thread.join().unwrap();
    });
}

#[test]
fn what_comes_after_a_cancel_is_not_told() {
    every_order(4, || {
        let (mailbox, thread) = dispatch();
        let story = Story::new();
        assert!(mailbox.send(story.listener()).is_ok());
        story.publish(1, &mailbox);
        story.cancel(&mailbox);
        story.publish(2, &mailbox);
        drop(mailbox);
        thread.join().unwrap();
        assert_ne!(story.told(), 2);
        story.check_end();
    });
}

/// Two threads cancel while a third has news; the listener goes once, after its last call.
#[test]
fn two_may_cancel_at_once() {
    every_order(3, || {
        let (mailbox, thread) = dispatch();
        let story = Story::new();
        assert!(mailbox.send(story.listener()).is_ok());
        let (other, theirs) = (story.clone(), mailbox.clone());
        let canceller = thread::spawn(move || other.cancel(&theirs));
        story.publish(1, &mailbox);
        story.cancel(&mailbox);
        canceller.join().unwrap();
        drop(mailbox);
        thread.join().unwrap();
        story.check_end();
    });
}

/// A client is closed while somebody subscribes, rings, cancels and calls: early or late, what belongs
/// to the listener and to the call is given back once.
#[test]
fn closing_gives_back_what_comes_early_or_late() {
    every_order(3, || {
        let (mailbox, thread) = dispatch();
        let story = Story::new();
        let call = Story::new();
        let (other, answered, theirs) = (story.clone(), call.clone(), mailbox.clone());
        let user = thread::spawn(move || {
            let _ = theirs.send(other.listener());
            other.publish(1, &theirs);
            other.cancel(&theirs);
            let owned = Owned(answered);
            let _ = theirs.send(Message::Run(Box::new(move || drop(owned))));
        });
        let _ = mailbox.send(Message::Stop);
        user.join().unwrap();
        drop(mailbox);
        thread.join().unwrap();
        story.check_end();
        call.check_end();
    });
}
