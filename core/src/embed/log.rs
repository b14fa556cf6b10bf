//! Log records for the host language. The one global of a process that loads the library: a host has
//! one log.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwapOption;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::error::{Error, ErrorKind, Result};
use crate::fork_safety::generation;

/// Takes log records. Called and dropped on the thread `discover-log` only.
pub trait LogSink: Send + 'static {
    /// One record: its level, the module it is from, its text.
    fn record(&mut self, level: Level, target: &str, text: &str);
}

/// How many records may wait; more are dropped, for a log must not stop what it tells of.
const BACKLOG: usize = 1024;

/// Read without a lock, which a fork could leave locked for ever.
static OUTLET: ArcSwapOption<Outlet> = ArcSwapOption::const_empty();

struct Outlet {
    /// A forked child inherits the outlet, but not the thread at its other end.
    generation: u32,
    records: SyncSender<(Level, String, String)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Sends records of `level` and graver to `sink`, in place of any before; with none, to nobody.
/// The sink before is dropped, and its last call over, when this returns, unless it is called from
/// inside that very sink. When this fails, `sink` is dropped before it returns, and the one before stays.
pub fn set_log(level: Level, sink: Option<Box<dyn LogSink>>) -> Result<()> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // Fails only if the host, being Rust, has a logger already, which then stays.
        let _ = log::set_logger(&Logger);
    });
    let new = sink.map(Outlet::start).transpose()?;
    log::set_max_level(if new.is_some() {
        level.to_level_filter()
    } else {
        LevelFilter::Off
    });
    if let Some(old) = OUTLET.swap(new.map(Arc::new)) {
        Outlet::end(old);
    }
    Ok(())
}

impl Outlet {
    fn start(mut sink: Box<dyn LogSink>) -> Result<Outlet> {
        let (records, inbox) = sync_channel::<(Level, String, String)>(BACKLOG);
        let body = move || {
            while let Ok((level, target, text)) = inbox.recv() {
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
        Ok(Outlet {
            generation: generation(),
            records,
            thread: Mutex::new(Some(thread.map_err(failed)?)),
        })
    }

    fn is_ours(&self) -> bool {
        self.generation == generation()
    }

    /// Waits until all records are told, but not for the thread that asks.
    fn end(this: Arc<Outlet>) {
        if !this.is_ours() {
            std::mem::forget(this);
            return;
        }
        let mut slot = this.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = slot.take();
        drop(slot);
        // The thread ends when the last sender does.
        drop(this);
        if let Some(handle) = handle
            && handle.thread().id() != thread::current().id()
        {
            let _ = handle.join();
        }
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("discover")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(outlet) = &*OUTLET.load()
            && outlet.is_ours()
        {
            let target = record.target().replace("::", ".");
            let text = record.args().to_string();
            // A full backlog drops the record.
            let _ = outlet.records.try_send((record.level(), target, text));
        }
    }

    fn flush(&self) {}
}
