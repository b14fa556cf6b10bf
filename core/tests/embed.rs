//! The `embed` module that the bindings use: threads, callbacks, feeds, closing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use discover_core::embed::{
    Engine, Error, ErrorKind, Event, LeaseHandle, Registration, SetHandle, Sink, Subscription,
    Waker,
};

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

fn engine() -> Arc<Engine> {
    let url = format!("memory://{:016x}", fastrand::u64(..));
    Arc::new(Engine::open(Some(&url)).unwrap().wait().unwrap())
}

fn register(engine: &Engine, port: u16) -> LeaseHandle {
    let registration = Registration::new("web", port).unwrap();
    engine.register(registration, None).unwrap().wait().unwrap()
}

/// Report of a sink.
enum SinkReport {
    /// A call, with the name of the thread and the kind of the event.
    Event(String, String),
    Dropped,
}

struct ReportingSink {
    reports: Sender<SinkReport>,
    then: Box<dyn FnMut(&Event) + Send>,
}

impl Sink for ReportingSink {
    fn event(&mut self, event: &Event) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.reports
            .send(SinkReport::Event(thread, event.kind().to_owned()))
            .unwrap();
        (self.then)(event);
    }
}

impl Drop for ReportingSink {
    fn drop(&mut self) {
        let _ = self.reports.send(SinkReport::Dropped);
    }
}

fn subscribe(
    set: &SetHandle,
    then: impl FnMut(&Event) + Send + 'static,
) -> (Subscription, Receiver<SinkReport>) {
    let (reports, inbox) = channel();
    let sink = Box::new(ReportingSink {
        reports,
        then: Box::new(then),
    });
    (set.subscribe(sink).unwrap(), inbox)
}

fn next_report(inbox: &Receiver<SinkReport>) -> String {
    match inbox.recv_timeout(WAIT_TIMEOUT).expect("no report arrived") {
        SinkReport::Event(thread, event) => {
            assert_eq!(thread, "discover-cb");
            event
        }
        SinkReport::Dropped => "dropped".to_owned(),
    }
}

#[test]
fn a_failed_open_reports_its_cause() {
    let opening = || Engine::open(Some("nowhere://")).unwrap();
    let refused = opening().wait().err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let (sender, inbox) = channel();
    let done = move |opened: Result<Engine, Error>| drop(sender.send(opened.err()));
    opening().then(done).unwrap();
    let refused = inbox.recv_timeout(WAIT_TIMEOUT).unwrap().unwrap();
    assert!(refused.report().contains("nowhere"), "{refused}");
}

#[test]
fn events_arrive_on_the_callback_thread_and_the_sink_is_dropped_once_after_the_last() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (subscription, inbox) = subscribe(&set, |_| {});
    assert_eq!(next_report(&inbox), "current");
    let lease = register(&engine, 1);
    assert_eq!([next_report(&inbox), next_report(&inbox)], ["up", "leader"]);
    subscription.cancel();
    subscription.cancel();
    assert_eq!(next_report(&inbox), "dropped");
    drop(lease);
    drop(subscription);
    assert!(
        inbox.recv_timeout(WAIT_TIMEOUT).is_err(),
        "no report follows the drop"
    );
    engine.close(WAIT_TIMEOUT).unwrap();
}

#[test]
fn a_snapshot_is_the_newest_until_the_set_changes_and_no_older_one_follows_a_wait() {
    let engine = engine();
    let whole = engine.services("web").unwrap();
    let narrow = whole.filter([].into(), Vec::new()).unwrap();
    let mut leases = Vec::new();
    for count in 1..50 {
        let before = [whole.snapshot().unwrap(), narrow.snapshot().unwrap()];
        leases.push(register(&engine, count));
        let after = whole
            .wait(count.into(), WAIT_TIMEOUT)
            .unwrap()
            .wait()
            .unwrap();
        for (set, before) in [&whole, &narrow].into_iter().zip(&before) {
            assert!(!set.is_newest(before), "{count}");
            assert_eq!(set.snapshot().unwrap().online().len(), usize::from(count));
        }
        assert!(whole.is_newest(&after) && narrow.is_newest(&narrow.snapshot().unwrap()));
    }
    engine.close(WAIT_TIMEOUT).unwrap();
}

#[test]
fn inside_a_callback_everything_but_closing_is_allowed() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (inner, held) = (engine.clone(), Arc::new(Mutex::new(Vec::new())));
    let kept = held.clone();
    let (_subscription, inbox) = subscribe(&set, move |event| {
        if event.kind() == "current" {
            assert_eq!(
                inner.close(WAIT_TIMEOUT).unwrap_err().kind(),
                ErrorKind::Busy
            );
            kept.lock().unwrap().push(register(&inner, 7));
            let snapshot = inner
                .services("web")
                .unwrap()
                .wait(1, WAIT_TIMEOUT)
                .unwrap()
                .wait();
            assert_eq!(snapshot.unwrap().online().len(), 1);
        }
    });
    assert_eq!(
        [
            next_report(&inbox),
            next_report(&inbox),
            next_report(&inbox)
        ],
        ["current", "up", "leader"]
    );
    held.lock().unwrap().clear();
    assert_eq!(
        [next_report(&inbox), next_report(&inbox)],
        ["down", "leader"]
    );
    engine.close(WAIT_TIMEOUT).unwrap();
    assert_eq!(next_report(&inbox), "dropped");
}

#[test]
fn a_subscription_cancelled_inside_its_callback_receives_no_more_events() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    // Three events are pending: up, leader and current.
    let _lease = register(&engine, 1);
    set.wait(1, WAIT_TIMEOUT).unwrap().wait().unwrap();
    let (cell, barrier) = (own.clone(), Arc::new(Mutex::new(())));
    let (waits, closed) = (barrier.clone(), barrier.lock().unwrap());
    let (subscription, inbox) = subscribe(&set, move |_| {
        drop(waits.lock().unwrap());
        cell.lock().unwrap().take();
    });
    *own.lock().unwrap() = Some(subscription);
    drop(closed);
    assert_eq!(next_report(&inbox), "up");
    assert_eq!(next_report(&inbox), "dropped");
    engine.close(WAIT_TIMEOUT).unwrap();
}

#[test]
fn concurrent_closes_succeed_and_end_calls_in_progress() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (_subscription, inbox) = subscribe(&set, |_| {});
    let (done, settled) = channel();
    set.wait(5, Duration::from_secs(3600))
        .unwrap()
        .then(move |result| done.send(result.map(drop).map_err(|e| e.kind())).unwrap())
        .unwrap();
    let waiting = set
        .wait(5, Duration::from_secs(3600))
        .unwrap()
        .start()
        .unwrap();
    let _lease = register(&engine, 1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| engine.close(WAIT_TIMEOUT).unwrap());
        }
    });
    assert_eq!(
        settled.recv_timeout(WAIT_TIMEOUT).unwrap(),
        Err(ErrorKind::Closed)
    );
    assert_eq!(
        waiting
            .wait_for(WAIT_TIMEOUT)
            .unwrap()
            .err()
            .unwrap()
            .kind(),
        ErrorKind::Closed
    );
    let last =
        std::iter::from_fn(|| Some(next_report(&inbox))).take_while(|event| event != "dropped");
    assert!(last.count() <= 3);
    assert_eq!(
        engine.services("web").err().unwrap().kind(),
        ErrorKind::Closed
    );
    let registration = Registration::new("web", 1).unwrap();
    assert_eq!(
        engine.register(registration, None).err().unwrap().kind(),
        ErrorKind::Closed
    );
    assert!(
        set.snapshot().unwrap().online().len() <= 1,
        "reads still work"
    );
}

#[test]
fn a_callback_that_never_returns_does_not_keep_the_client_from_closing() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (never, stuck) = channel::<()>();
    let (_subscription, inbox) = subscribe(&set, move |_| assert!(stuck.recv().is_err()));
    assert_eq!(next_report(&inbox), "current");
    let error = engine.close(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.report().contains("callback"), "{error}");
    // The client is closed nevertheless, and the sink is dropped when the callback returns.
    engine.close(WAIT_TIMEOUT).unwrap();
    drop(never);
    assert_eq!(next_report(&inbox), "dropped");
}

struct Doorbell(Arc<AtomicUsize>, Sender<()>);

impl Waker for Doorbell {
    fn wake(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.send(()).unwrap();
    }
}

/// G10: a slow subscriber costs one old snapshot, and receives the latest state.
#[test]
fn rings_are_merged_and_the_last_state_is_drained() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (rings, rung) = channel();
    let count = Arc::new(AtomicUsize::new(0));
    let mut feed = set.feed(Box::new(Doorbell(count.clone(), rings))).unwrap();
    rung.recv_timeout(WAIT_TIMEOUT).unwrap();
    let lease = register(&engine, 1);
    for n in 0..100 {
        let v = [("v".to_owned(), n.to_string())].into_iter().collect();
        lease.update(v).unwrap().wait().unwrap();
    }
    set.wait(1, WAIT_TIMEOUT).unwrap().wait().unwrap();
    assert_eq!(
        count.load(Ordering::SeqCst),
        1,
        "one wake-up until the drain"
    );
    let mut events: Vec<Event> = Vec::new();
    while !events
        .iter()
        .any(|e| e.instance().is_some_and(|i| i.attributes()["v"] == "99"))
    {
        events.extend(feed.drain());
        if events.is_empty() {
            rung.recv_timeout(WAIT_TIMEOUT).unwrap();
        }
    }
    assert!(events.len() <= 2 * 100);
    feed.cancel();
    assert!(feed.drain().is_empty());
    engine.close(WAIT_TIMEOUT).unwrap();
}

#[test]
fn a_feed_with_a_wake_function_calls_it_once_for_each_drain_and_drops_it_when_cancelled() {
    let engine = engine();
    let set = engine.services("web").unwrap();
    let (rings, rung) = channel();
    let post = move || {
        let thread = std::thread::current();
        rings.send(thread.name().map(str::to_owned)).unwrap();
    };
    let mut feed = set.feed_with_wake_fn(post).unwrap();
    let ring = rung.recv_timeout(WAIT_TIMEOUT).unwrap();
    assert_eq!(ring.as_deref(), Some("discover-rt"));
    let lease = register(&engine, 1);
    set.wait(1, WAIT_TIMEOUT).unwrap().wait().unwrap();
    assert!(rung.try_recv().is_err(), "one wake-up until the drain");
    assert!(feed.drain().iter().any(|event| event.kind() == "up"));
    let more = [("v".to_owned(), "1".to_owned())].into_iter().collect();
    lease.update(more).unwrap().wait().unwrap();
    rung.recv_timeout(WAIT_TIMEOUT).unwrap();
    assert!(feed.drain().iter().any(|event| event.kind() == "update"));
    feed.cancel();
    assert!(feed.drain().is_empty());
    // A wake-up may have been in progress; after it the wake function is dropped.
    let mut rest = std::iter::from_fn(|| Some(rung.recv_timeout(WAIT_TIMEOUT)));
    let last = rest.find(Result::is_err);
    assert_eq!(last, Some(Err(RecvTimeoutError::Disconnected)));
    engine.close(WAIT_TIMEOUT).unwrap();
    let mut late = set.feed_with_wake_fn(|| ()).unwrap();
    assert_eq!(late.check().unwrap_err().kind(), ErrorKind::Closed);
    let known = late.drain();
    assert!(known.iter().any(|event| event.kind() == "current"));
}

#[test]
fn closed_clients_leave_no_threads_or_descriptors() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (threads(), descriptors());
    for _ in 0..100 {
        let engine = engine();
        let _lease = register(&engine, 1);
        engine.close(WAIT_TIMEOUT).unwrap();
    }
    // Other tests of this program run in parallel, so the bounds are wide.
    assert!(threads() < before.0 + 50 && descriptors() < before.1 + 100);
}
