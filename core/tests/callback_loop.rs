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
            // Values inside the messages may use the queue when they are dropped.
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

/// A subscription and its observed calls.
struct Scenario {
    flags: loom::sync::Arc<Flags>,
    /// The state to deliver, such as the snapshot of a set.
    state: AtomicUsize,
    delivered: AtomicUsize,
    calls: AtomicUsize,
    drops: AtomicUsize,
    calls_when_dropped: AtomicUsize,
}

/// Dropped with the callback that holds it, like the `user_data` of a subscription.
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

    /// Returns the message that adds a callback like that of a subscription: acknowledge, read the state, deliver it
    /// unless cancelled.
    fn callback_message(self: &Arc<Scenario>) -> Message {
        let owned = Owned(self.clone());
        let callback = move |flags: &Flags| {
            let scenario = &owned.0;
            flags.acknowledge();
            let state = scenario.state.load(Ordering::Acquire);
            if state != scenario.delivered.load(Ordering::Acquire) && !flags.is_cancelled() {
                scenario.calls.fetch_add(1, Ordering::AcqRel);
                scenario.delivered.store(state, Ordering::Release);
            }
        };
        Message::Add(CALLBACK_ID, Box::new(callback), self.flags.clone())
    }

    /// Publishes a state like a notifier: stores it, then requests a wake-up.
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

    /// Checks that the callback was dropped once and never called afterwards.
    fn check_end(&self) {
        assert_eq!(self.drops.load(Ordering::Acquire), 1, "dropped once");
        let (at_drop, calls) = (&self.calls_when_dropped, &self.calls);
        assert_eq!(
            at_drop.load(Ordering::Acquire),
            calls.load(Ordering::Acquire)
        );
    }
}

/// Runs the scenario in every order of its threads, with at most this many preemptions.
fn every_order(switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(scenario);
}

/// Starts the callback thread, which ends when its queue is closed or it receives the stop message.
fn start_callback_thread() -> (Sender<Message>, thread::JoinHandle<()>) {
    let (queue_end, inbox) = channel();
    (queue_end, thread::spawn(move || run(&inbox)))
}

#[test]
fn the_last_state_is_always_delivered() {
    every_order(4, || {
        let (queue_end, thread) = start_callback_thread();
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

/// A feed: the callback only wakes the user, who drains on another thread.
#[test]
fn a_feed_that_is_drained_on_another_thread_misses_no_wake_up() {
    every_order(3, || {
        let (queue_end, thread) = start_callback_thread();
        let scenario = Scenario::new();
        let (waker, wake_ups) = channel();
        let wake = move |_: &Flags| waker.send(()).unwrap_or_default();
        let flags = scenario.flags.clone();
        let added = Message::Add(CALLBACK_ID, Box::new(wake), flags.clone());
        assert!(queue_end.send(added).is_ok());
        let (drained, reader) = (flags, scenario.clone());
        let user = thread::spawn(move || {
            // Without a wake-up this blocks indefinitely, which the model checker reports.
            while reader.delivered() != 2 {
                wake_ups.recv().unwrap();
                drained.acknowledge();
                let state = reader.state.load(Ordering::Acquire);
                reader.delivered.store(state, Ordering::Release);
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
fn states_published_after_a_cancel_are_not_delivered() {
    every_order(4, || {
        let (queue_end, thread) = start_callback_thread();
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

/// Two threads cancel while a state is published: the callback is dropped once, after its last call.
#[test]
fn two_threads_may_cancel_at_once() {
    every_order(3, || {
        let (queue_end, thread) = start_callback_thread();
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

/// A client is closed while another thread subscribes, publishes, cancels and starts a call: whatever the order, the
/// callback and the call are dropped once.
#[test]
fn closing_drops_callbacks_and_calls_once_in_any_order() {
    every_order(3, || {
        let (queue_end, thread) = start_callback_thread();
        let scenario = Scenario::new();
        let call = Scenario::new();
        let (other, call_owner, theirs) = (scenario.clone(), call.clone(), queue_end.clone());
        let user = thread::spawn(move || {
            let _ = theirs.send(other.callback_message());
            other.publish(1, &theirs);
            other.cancel(&theirs);
            let owned = Owned(call_owner);
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
