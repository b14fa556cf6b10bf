//! Memory, descriptors and threads of a process over time, and whether they stay flat.

use std::fmt;

/// One measurement of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStats {
    /// Resident memory in KiB.
    pub memory: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Threads.
    pub threads: f64,
}

/// The development of one quantity.
#[derive(Clone, Copy, Debug)]
pub struct Trend {
    /// Mean of the second third.
    pub middle: f64,
    /// Mean of the last third.
    pub last: f64,
    /// Allowed growth.
    pub slack: f64,
}

/// Measures a process; none if it no longer exists.
pub fn sample(pid: u32) -> Option<ProcessStats> {
    let count = |what: &str| {
        Some(
            std::fs::read_dir(format!("/proc/{pid}/{what}"))
                .ok()?
                .count() as f64,
        )
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(ProcessStats {
        memory: memory.split_whitespace().next()?.parse().ok()?,
        descriptors: count("fd")?,
        threads: count("task")?,
    })
}

/// Returns the trends of memory, descriptors and threads; the first third is warm-up. Memory may grow by 2 %, or by 64 KiB
/// a minute, whichever is more.
pub fn trends(samples: &[ProcessStats], minutes: f64) -> [(&'static str, Trend); 3] {
    let third = samples.len() / 3;
    let trend = |of: fn(&ProcessStats) -> f64, slack: &dyn Fn(f64) -> f64| {
        let middle = mean(samples[third..third * 2].iter().map(of));
        let last = mean(samples[third * 2..].iter().map(of));
        Trend {
            middle,
            last,
            slack: slack(middle),
        }
    };
    let memory = |middle: f64| (middle / 50.0).max(64.0 * minutes / 3.0);
    // One connection or thread may be about to open or close.
    let few = |_| 2.0;
    [
        ("KiB", trend(|s| s.memory, &memory)),
        ("descriptors", trend(|s| s.descriptors, &few)),
        ("threads", trend(|s| s.threads, &few)),
    ]
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 {
        f64::NAN
    } else {
        sum / f64::from(count)
    }
}

impl Trend {
    /// Returns true if the quantity did not grow. No measurements count as growth.
    pub fn is_flat(&self) -> bool {
        self.last <= self.middle + self.slack
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_flat() { "flat" } else { "GROWS" };
        write!(f, "{:.1} -> {:.1} {verdict}", self.middle, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(
        memory: impl Fn(usize) -> f64,
        descriptors: impl Fn(usize) -> f64,
    ) -> Vec<ProcessStats> {
        let one = |n| ProcessStats {
            memory: memory(n),
            descriptors: descriptors(n),
            threads: 4.0,
        };
        (0..90).map(one).collect()
    }

    fn flat(samples: &[ProcessStats]) -> [bool; 3] {
        trends(samples, 3.0).map(|(_, course)| course.is_flat())
    }

    #[test]
    fn warming_up_and_swaying_is_flat() {
        let warm = |n: usize| {
            if n < 30 {
                100.0 * n as f64
            } else {
                3000.0 + (n % 7) as f64
            }
        };
        assert_eq!(flat(&samples(warm, |n| 9.0 + (n % 2) as f64)), [true; 3]);
    }

    #[test]
    fn growth_is_found() {
        let grows = |n: usize| 3000.0 + 10.0 * n as f64;
        assert_eq!(flat(&samples(grows, |_| 9.0)), [false, true, true]);
        assert_eq!(
            flat(&samples(|_| 3000.0, |n| 9.0 + n as f64 / 10.0)),
            [true, false, true]
        );
    }

    #[test]
    fn no_samples_are_not_flat() {
        assert_eq!(flat(&[]), [false; 3]);
    }

    #[test]
    fn this_process_can_be_sampled() {
        let own = sample(std::process::id()).unwrap();
        assert!(
            own.memory > 100.0 && own.descriptors >= 3.0 && own.threads >= 1.0,
            "{own:?}"
        );
    }
}
