//! Logging in a Rust program that has a `tracing` subscriber of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use discover_core::embed::{Level, LogSink, set_log};
use discover_core::{Client, Registration};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

static EVENTS: AtomicUsize = AtomicUsize::new(0);

/// Counts the events of the library.
struct Program;

impl Subscriber for Program {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("discover_core")
    }

    fn event(&self, _: &Event<'_>) {
        EVENTS.fetch_add(1, Ordering::SeqCst);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Unused;

impl LogSink for Unused {
    fn record(&mut self, _: Level, _: &str, text: &str) {
        panic!("received {text}");
    }
}

#[tokio::test]
async fn the_subscriber_of_the_program_stays_and_the_sink_receives_nothing() {
    subscriber::set_global_default(Program).unwrap();
    set_log(Level::TRACE, Some(Box::new(Unused))).unwrap();
    let client = Client::connect("memory://logging").await.unwrap();
    let registration = Registration::new("web", 1).unwrap().host("h").unwrap();
    let lease = client.register(registration).await.unwrap();
    lease.unregister().await.unwrap();
    set_log(Level::TRACE, None).unwrap();
    // Connected, registered, unregistered.
    assert_eq!(EVENTS.load(Ordering::SeqCst), 3);
}
