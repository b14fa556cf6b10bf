//! Metrics of the process, `process_*`, from `/proc/self`.

use std::fmt;

use discover_core::Result;
use futures_util::future::{BoxFuture, FutureExt, ready};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;
use tokio::time::Instant;

use crate::runtime::component::Component;
use crate::runtime::metrics::MetricsWriter;

/// Indexes of fields in `/proc/self/stat`, counted from the field after the name of the command.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START_TIME: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// The component that reports the metrics of the process. Values that the system does not provide are left out.
pub struct ProcessMetrics;

impl Component for ProcessMetrics {
    fn name(&self) -> &'static str {
        "process"
    }

    fn start(&self, _: Option<Value>) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn stop(&self, _: Instant) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }

    fn write_metrics(&self, out: &mut MetricsWriter<'_, '_>) -> fmt::Result {
        if let Some(stat) = ProcessStat::read() {
            out.counter(
                "process_cpu_seconds",
                "User and system CPU time of the process, in seconds",
                stat.cpu_seconds,
            )?;
            out.gauge(
                "process_resident_memory_bytes",
                "Resident memory of the process, in bytes",
                stat.resident_bytes,
            )?;
            out.gauge(
                "process_virtual_memory_bytes",
                "Virtual memory of the process, in bytes",
                stat.virtual_bytes,
            )?;
            out.gauge("process_threads", "Threads of the process", stat.threads)?;
            if let Some(start) = stat.start_seconds {
                out.gauge(
                    "process_start_time_seconds",
                    "Start of the process, in seconds since the Unix epoch",
                    start,
                )?;
            }
        }
        if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
            // The entries include the descriptor of the directory itself.
            let open = (descriptors.count() as u64).saturating_sub(1);
            out.gauge("process_open_fds", "File descriptors that are open", open)?;
        }
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            out.gauge("process_max_fds", "Limit of open file descriptors", limit)?;
        }
        Ok(())
    }
}

struct ProcessStat {
    cpu_seconds: f64,
    threads: u64,
    resident_bytes: u64,
    virtual_bytes: u64,
    start_seconds: Option<f64>,
}

impl ProcessStat {
    fn read() -> Option<ProcessStat> {
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
        let page_bytes = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the command, in parentheses, may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second;
        let start = seconds(field(START_TIME)?);
        Some(ProcessStat {
            cpu_seconds: seconds(field(UTIME)? + field(STIME)?),
            threads: field(THREADS)?,
            resident_bytes: field(RESIDENT_PAGES)? * page_bytes,
            virtual_bytes: field(VIRTUAL_BYTES)?,
            start_seconds: boot_time().map(|boot| boot + start),
        })
    }
}

/// Returns when the host started, in seconds since the Unix epoch.
fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_this_process_are_plausible() {
        let stat = ProcessStat::read().unwrap();
        assert!(stat.resident_bytes > 0 && stat.virtual_bytes > stat.resident_bytes);
        assert!(stat.threads >= 1);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - stat.start_seconds.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
