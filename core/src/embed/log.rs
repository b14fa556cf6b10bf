//! Log callback of the host program.
//!
//! A small `tracing` subscriber renders each event of the library as one registration of text and passes it to the
//! thread `discover-log`, which calls the [`LogSink`]. The sink is a global of the process, because a host
//! program has one log.

use std::fmt::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwapOption;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::generation;
use crate::printable::printable_excerpt;

/// Receives log records. Called and dropped on the thread `discover-log` only.
pub trait LogSink: Send + 'static {
    /// Handles one record: its level, the module that logged it (`discover_core.lease`), and its text.
    ///
    /// The text is the message followed by the fields as ` key=value`: `service`, `instance`, `endpoint`,
    /// `backend` and `error` first and in this order, then all others. A value that is empty or contains
    /// whitespace, control characters or quotes is quoted and escaped.
    fn record(&mut self, level: Level, target: &str, text: &str);
}

/// Maximum number of records that wait for the sink. Further records are dropped, so that a slow sink never
/// blocks the library.
const MAX_QUEUED_RECORDS: usize = 1024;

/// Fields that come first in the text of a record, in this order.
const LEADING_FIELDS: [&str; 5] = ["service", "instance", "endpoint", "backend", "error"];

/// The installed sink. Read without a lock, because a fork could leave a lock locked in the child.
static LOG_THREAD: ArcSwapOption<LogThread> = ArcSwapOption::const_empty();

struct LogThread {
    level: Level,
    /// Fork generation of the process that started the thread. A forked child inherits this value, but not
    /// the thread.
    generation: u32,
    records: SyncSender<(Level, String, String)>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// Delivers the library's log records of `level` and more severe ones to `sink`, which replaces the previous
/// sink. `None` switches the log off.
///
/// When this returns, the previous sink has had its last call and is dropped, unless this is called from
/// inside that sink.
///
/// The first call installs a global `tracing` subscriber for the process. If the process has one already, as
/// a Rust program may, that subscriber stays and receives the events, and `sink` receives none. A Rust program
/// that sets neither a subscriber nor a sink receives the events as records of the `log` crate.
///
/// # Errors
///
/// `Resource` if the thread `discover-log` cannot be started. Then `sink` is dropped before this returns, and
/// the previous sink stays.
pub fn set_log(level: Level, sink: Option<Box<dyn LogSink>>) -> Result<()> {
    static IS_SUBSCRIBED: OnceLock<bool> = OnceLock::new();
    let is_subscribed = IS_SUBSCRIBED.get_or_init(|| set_global_default(LogSubscriber).is_ok());
    let new = sink.map(|sink| LogThread::start(level, sink)).transpose()?;
    let old = LOG_THREAD.swap(new.map(Arc::new));
    if *is_subscribed {
        // Makes the macros ask for the level again.
        tracing::callsite::rebuild_interest_cache();
    }
    if let Some(old) = old {
        LogThread::stop(old);
    }
    Ok(())
}

impl LogThread {
    fn start(level: Level, mut sink: Box<dyn LogSink>) -> Result<LogThread> {
        let (records, queue) = sync_channel::<(Level, String, String)>(MAX_QUEUED_RECORDS);
        let body = move || {
            while let Ok((level, target, text)) = queue.recv() {
                sink.record(level, &target, &text);
            }
        };
        let thread = thread::Builder::new()
            .name("discover-log".to_owned())
            .spawn(body);
        let failed = |e| {
            Error::caused_by(
                ErrorKind::Resource,
                "cannot start the thread discover-log",
                e,
            )
        };
        Ok(LogThread {
            level,
            generation: generation(),
            records,
            handle: Mutex::new(Some(thread.map_err(failed)?)),
        })
    }

    fn belongs_to_this_process(&self) -> bool {
        self.generation == generation()
    }

    /// Waits until all queued records are delivered, except when called on the log thread itself.
    fn stop(this: Arc<LogThread>) {
        if !this.belongs_to_this_process() {
            std::mem::forget(this);
            return;
        }
        let mut slot = this.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = slot.take();
        drop(slot);
        // The thread ends when the last sender is dropped.
        drop(this);
        if let Some(handle) = handle
            && handle.thread().id() != thread::current().id()
        {
            let _ = handle.join();
        }
    }
}

/// Passes the events of this library to the log thread. Ignores spans and the events of other crates.
struct LogSubscriber;

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("discover")
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.enabled(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    /// While no sink is set, the macros stop at this level, which they read with one atomic load.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        let thread = LOG_THREAD.load();
        let level = thread.as_ref().map(|thread| thread.level);
        Some(level.map_or(LevelFilter::OFF, LevelFilter::from_level))
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if let Some(thread) = &*LOG_THREAD.load()
            && *metadata.level() <= thread.level
            && thread.belongs_to_this_process()
        {
            let target = metadata.target().replace("::", ".");
            let text = EventText::render(event);
            // Fails if the queue is full; then the record is dropped.
            let _ = thread.records.try_send((*metadata.level(), target, text));
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Maximum length of the message and of each field, in characters. Both may contain text of other parties.
const MAX_TEXT_CHARS: usize = 4096;

/// Collects the message and the fields of one event.
#[derive(Default)]
struct EventText {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl EventText {
    fn render(event: &Event<'_>) -> String {
        let mut parts = EventText::default();
        event.record(&mut parts);
        let rank = |name: &str| LEADING_FIELDS.iter().position(|leading| *leading == name);
        // Stable, so that the other fields stay in the order of the macro.
        parts
            .fields
            .sort_by_key(|(name, _)| rank(name).unwrap_or(LEADING_FIELDS.len()));
        let mut text = printable_excerpt(&parts.message, MAX_TEXT_CHARS);
        for (name, value) in parts.fields {
            let must_quote = |c: char| c.is_whitespace() || c == '"';
            let value = printable_excerpt(&value, MAX_TEXT_CHARS);
            // Writing to a string does not fail.
            let _ = match value.is_empty() || value.contains(must_quote) {
                true => write!(text, " {name}=\"{}\"", value.replace('"', "\\\"")),
                false => write!(text, " {name}={value}"),
            };
        }
        text
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
