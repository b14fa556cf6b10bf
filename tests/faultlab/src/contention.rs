//! Measures CPU contention: how much longer work takes than it would on an idle machine. Bounds apply to programs that get
//! to run, so they are extended accordingly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::time::{ClockId, clock_gettime};

use discover_testkit::clock::{Micros, SECOND, now, pause};

/// The work of one measurement in microseconds, and the interval in seconds.
const WORK: Micros = 4_000;
const INTERVAL: f64 = 0.25;

/// Maximum factor by which bounds are extended.
const MAX_FACTOR: f64 = 6.0;

/// Measures until it is dropped.
pub struct ContentionGauge {
    stop: Arc<AtomicBool>,
    measured: Arc<Mutex<(Micros, Micros)>>,
    thread: Option<JoinHandle<()>>,
}

impl ContentionGauge {
    /// Starts to measure.
    pub fn start() -> ContentionGauge {
        let (stop, measured): (Arc<AtomicBool>, Arc<Mutex<(Micros, Micros)>>) = Default::default();
        let (ends, place) = (stop.clone(), measured.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                let (began, worked) = (now(), own_time());
                while own_time() - worked < WORK {
                    std::hint::spin_loop();
                }
                let mut sum = place.lock().unwrap_or_else(PoisonError::into_inner);
                sum.0 += now() - began;
                sum.1 += own_time() - worked;
                drop(sum);
                pause(INTERVAL);
            }
        });
        ContentionGauge {
            stop,
            measured,
            thread: Some(thread),
        }
    }

    /// Extends a bound in seconds by half a second for each time that work takes longer. Most of a bound is waiting, which
    /// contention does not slow down.
    pub fn stretch(&self, bound: f64) -> f64 {
        bound + 0.5 * (self.busy() - 1.0)
    }

    /// Returns how many times longer work takes; 1 on an idle machine.
    pub fn busy(&self) -> f64 {
        let (passed, worked) = *self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        (passed as f64 / worked.max(1) as f64).clamp(1.0, MAX_FACTOR)
    }
}

impl Drop for ContentionGauge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns the CPU time of this thread.
fn own_time() -> Micros {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel has this clock");
    time.tv_sec() as Micros * SECOND + time.tv_nsec() as Micros / 1000
}
