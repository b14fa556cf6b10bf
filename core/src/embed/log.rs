//! Log records for the host language. The one global of a process that loads the library: a host has
//! one log.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::error::{Error, Kind, Result};

/// Takes log records. Called and dropped on the thread `discover-log` only.
pub trait LogSink: Send + 'static {
    /// One record: its level, the module it is from, its text.
    fn record(&mut self, level: Level, target: &str, text: &str);
}

/// How many records may wait; more are dropped, for a log must not stop what it tells of.
const BACKLOG: usize = 1024;

static LOGGER: Logger = Logger {
    outlet: Mutex::new(None),
};

struct Logger {
    outlet: Mutex<Option<Outlet>>,
}

struct Outlet {
    records: SyncSender<(Level, String, String)>,
    thread: JoinHandle<()>,
}

/// Sends records of `level` and graver to `sink`, in place of any before; with none, to nobody.
/// The sink before is dropped, and its last call over, when this returns, unless it is called from
/// inside that very sink.
pub fn set_log(level: Level, sink: Option<Box<dyn LogSink>>) -> Result<()> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // Fails only if the host, being Rust, has a logger already, which then stays.
        let _ = log::set_logger(&LOGGER);
    });
    let new = sink.map(Outlet::start).transpose()?;
    log::set_max_level(if new.is_some() {
        level.to_level_filter()
    } else {
        LevelFilter::Off
    });
    let old = std::mem::replace(&mut *LOGGER.outlet(), new);
    if let Some(Outlet { records, thread }) = old {
        drop(records);
        if thread::current().id() != thread.thread().id() {
            let _ = thread.join();
        }
    }
    Ok(())
}

impl Outlet {
    fn start(mut sink: Box<dyn LogSink>) -> Result<Outlet> {
        let (records, inbox) = sync_channel(BACKLOG);
        let body = move || {
            while let Ok((level, target, text)) = inbox.recv() {
                let (target, text): (String, String) = (target, text);
                sink.record(level, &target, &text);
            }
        };
        let thread = thread::Builder::new()
            .name("discover-log".to_owned())
            .spawn(body);
        let failed =
            |e| Error::caused_by(Kind::Resource, "cannot start the thread discover-log", e);
        Ok(Outlet {
            records,
            thread: thread.map_err(failed)?,
        })
    }
}

impl Logger {
    fn outlet(&self) -> MutexGuard<'_, Option<Outlet>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("discover")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(outlet) = &*self.outlet() {
            let target = record.target().replace("::", ".");
            match outlet
                .records
                .try_send((record.level(), target, record.args().to_string()))
            {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn flush(&self) {}
}
