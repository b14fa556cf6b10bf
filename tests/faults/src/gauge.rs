//! How busy the machine is with other things: how much longer work takes than it would alone. Bounds
//! are promised to programs that get to run, so they are stretched by as much.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::time::{ClockId, clock_gettime};

use crate::clock::{Micros, SECOND, now, pause};

/// How much work is measured at a time, in microseconds, and how often, in seconds.
const WORK: Micros = 4_000;
const EVERY: f64 = 0.25;

/// No machine is so busy that a bound may be stretched by more.
const MOST: f64 = 6.0;

/// Measures until it is dropped.
pub struct Gauge {
    stop: Arc<AtomicBool>,
    measured: Arc<Mutex<(Micros, Micros)>>,
    thread: Option<JoinHandle<()>>,
}

impl Gauge {
    /// Begins to measure.
    pub fn start() -> Gauge {
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
                pause(EVERY);
            }
        });
        Gauge {
            stop,
            measured,
            thread: Some(thread),
        }
    }

    /// A bound in seconds, with what the machine may take of it: half a second more for each time that
    /// work takes longer. Most of a bound is waiting, which a busy machine does as fast as any.
    pub fn stretch(&self, bound: f64) -> f64 {
        bound + 0.5 * (self.busy() - 1.0)
    }

    /// How many times longer things take; 1 on a machine of one's own.
    pub fn busy(&self) -> f64 {
        let (passed, worked) = *self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        (passed as f64 / worked.max(1) as f64).clamp(1.0, MOST)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What this thread has worked.
fn own_time() -> Micros {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel has this clock");
    time.tv_sec() as Micros * SECOND + time.tv_nsec() as Micros / 1000
}
