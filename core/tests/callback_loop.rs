//! The callback loop between notifications and callbacks, in every order in which its threads may run (G10, G19): the
//! source of the library itself, on atomics and a queue for which the model checker tries every order.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

mod sync {
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, Ordering};

    pub use super::queue_end::Receiver;
}

/// A queue with the semantics of the standard library's, which loom's queue lacks once one end is dropped.
mod queue_end {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::mpsc::{RecvError, SendError};

    use loom::sync::{Condvar, Mutex};

    struct QueueState<T> {
        messages: VecDeque<T>,
        senders: usize,
        has_receiver: bool,
    }

    type SharedQueue<T> = Arc<(Mutex<QueueState<T>>, Condvar)>;

    pub struct Sender<T>(SharedQueue<T>);
    pub struct Receiver<T>(SharedQueue<T>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let queue = QueueState {
            messages: VecDeque::new(),
            senders: 1,
            has_receiver: true,
        };
        let shared = Arc::new((Mutex::new(queue), Condvar::new()));
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub fn send(&self, message: T) -> Result<(), SendError<T>> {
            let mut queue = self.0.0.lock().unwrap();
            if !queue.has_receiver {
                return Err(SendError(message));
            }
            queue.messages.push_back(message);
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
            let mut queue = self.0.0.lock().unwrap();
            loop {
                if let Some(message) = queue.messages.pop_front() {
                    return Ok(message);
                }
                if queue.senders == 0 {
                    return Err(RecvError);
                }
                queue = self.0.1.wait(queue).unwrap();
            }
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut queue = self.0.0.lock().unwrap();
            queue.has_receiver = false;
            let unread = std::mem::take(&mut queue.messages);
            // What they own may read the queue while it goes.
            drop(queue);
            drop(unread);
        }
    }
}

#[path = "../src/embed/callback_loop.rs"]
mod callback_loop;

use callback_loop::{Flags, Message, run};
use queue_end::{Sender, channel};

const CALLBACK_ID: u64 = 1;

/// A listener and what happened to it.
struct Scenario {
    flags: loom::sync::Arc<Flags>,
    /// What there is to be delivered: the snapshot of a set.
    state: AtomicUsize,
    delivered: AtomicUsize,
    calls: AtomicUsize,
    drops: AtomicUsize,
    calls_when_dropped: AtomicUsize,
}

/// Dropped with the listener that holds it, as the `user_data` of a subscription is.
struct Owned(Arc<Scenario>);

impl Drop for Owned {
    fn drop(&mut self) {
        let calls = self.0.calls.load(Ordering::Acquire);
        self.0.calls_when_dropped.store(calls, Ordering::Release);
        self.0.drops.fetch_add(1, Ordering::AcqRel);
    }
}

impl Scenario {
    fn new() -> Arc<Scenario> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Scenario {
            flags: loom::sync::Arc::new(Flags::new()),
            state: zero(),
            delivered: zero(),
            calls: zero(),
            drops: zero(),
            calls_when_dropped: zero(),
        })
    }

    /// As a subscription listens: answer, look, and tell unless cancelled.
    fn callback_message(self: &Arc<Scenario>) -> Message {
        let owned = Owned(self.clone());
        let listen = move |flags: &Flags| {
            let scenario = &owned.0;
            flags.acknowledge();
            let state = scenario.state.load(Ordering::Acquire);
            if state != scenario.delivered.load(Ordering::Acquire) && !flags.is_cancelled() {
                scenario.calls.fetch_add(1, Ordering::AcqRel);
                scenario.delivered.store(state, Ordering::Release);
            }
        };
        Message::Add(CALLBACK_ID, Box::new(listen), self.flags.clone())
    }

    /// As a pump does: the state first, then the ring.
    fn publish(&self, state: usize, queue_end: &Sender<Message>) {
        self.state.store(state, Ordering::Release);
        if self.flags.request_wake() {
            let _ = queue_end.send(Message::Wake(CALLBACK_ID));
        }
    }

    fn cancel(&self, queue_end: &Sender<Message>) {
        if self.flags.cancel() {
            let _ = queue_end.send(Message::Remove(CALLBACK_ID));
        }
    }

    fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Acquire)
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
fn every_order(switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(scenario);
}

/// The callback thread, which ends when its queue is closed or it receives the stop message.
fn dispatch() -> (Sender<Message>, thread::JoinHandle<()>) {
    let (queue_end, inbox) = channel();
    (queue_end, thread::spawn(move || run(&inbox)))
}

#[test]
fn the_last_state_is_always_told() {
    every_order(4, || {
        let (queue_end, thread) = dispatch();
        let scenario = Scenario::new();
        assert!(queue_end.send(scenario.callback_message()).is_ok());
        scenario.publish(1, &queue_end);
        scenario.publish(2, &queue_end);
        scenario.publish(3, &queue_end);
        drop(queue_end);
        thread.join().unwrap();
        assert_eq!(scenario.delivered(), 3);
        scenario.check_end();
    });
}

/// A feed: the bell only says that there is something, and the user drains from a thread of its own.
#[test]
fn a_feed_that_is_drained_elsewhere_misses_no_bell() {
    every_order(3, || {
        let (queue_end, thread) = dispatch();
        let scenario = Scenario::new();
        let (bell, rings) = channel();
        let ring = move |_: &Flags| bell.send(()).unwrap_or_default();
        let flags = scenario.flags.clone();
        let added = Message::Add(CALLBACK_ID, Box::new(ring), flags.clone());
        assert!(queue_end.send(added).is_ok());
        let (drained, read) = (flags, scenario.clone());
        let user = thread::spawn(move || {
            // Without a wake-up this blocks indefinitely, which the model checker reports.
            while read.delivered() != 2 {
                rings.recv().unwrap();
                drained.acknowledge();
                let state = read.state.load(Ordering::Acquire);
                read.delivered.store(state, Ordering::Release);
            }
        });
        scenario.publish(1, &queue_end);
        scenario.publish(2, &queue_end);
        user.join().unwrap();
        drop(queue_end);
        thread.join().unwrap();
    });
}

#[test]
fn what_comes_after_a_cancel_is_not_told() {
    every_order(4, || {
        let (queue_end, thread) = dispatch();
        let scenario = Scenario::new();
        assert!(queue_end.send(scenario.callback_message()).is_ok());
        scenario.publish(1, &queue_end);
        scenario.cancel(&queue_end);
        scenario.publish(2, &queue_end);
        drop(queue_end);
        thread.join().unwrap();
        assert_ne!(scenario.delivered(), 2);
        scenario.check_end();
    });
}

/// Two threads cancel while a third has news; the listener goes once, after its last call.
#[test]
fn two_may_cancel_at_once() {
    every_order(3, || {
        let (queue_end, thread) = dispatch();
        let scenario = Scenario::new();
        assert!(queue_end.send(scenario.callback_message()).is_ok());
        let (other, theirs) = (scenario.clone(), queue_end.clone());
        let canceller = thread::spawn(move || other.cancel(&theirs));
        scenario.publish(1, &queue_end);
        scenario.cancel(&queue_end);
        canceller.join().unwrap();
        drop(queue_end);
        thread.join().unwrap();
        scenario.check_end();
    });
}

/// A client is closed while somebody subscribes, rings, cancels and calls: early or late, what belongs
/// to the listener and to the call is given back once.
#[test]
fn closing_gives_back_what_comes_early_or_late() {
    every_order(3, || {
        let (queue_end, thread) = dispatch();
        let scenario = Scenario::new();
        let call = Scenario::new();
        let (other, answered, theirs) = (scenario.clone(), call.clone(), queue_end.clone());
        let user = thread::spawn(move || {
            let _ = theirs.send(other.callback_message());
            other.publish(1, &theirs);
            other.cancel(&theirs);
            let owned = Owned(answered);
            let _ = theirs.send(Message::Run(Box::new(move || drop(owned))));
        });
        let _ = queue_end.send(Message::Stop);
        user.join().unwrap();
        drop(queue_end);
        thread.join().unwrap();
        scenario.check_end();
        call.check_end();
    });
}
