//! Messages about what others write: one a second says enough, however often they write it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const PACE: Duration = Duration::from_secs(1);

/// Complains of one kind of thing, at a measured pace.
#[derive(Default)]
pub(crate) struct Complaint(Mutex<(Option<Instant>, u64)>);

impl Complaint {
    /// Logs a warning, or counts it for the next one.
    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
        if let Some(untold) = self.turn() {
            let more = match untold {
                0 => String::new(),
                untold => format!(" (and {untold} more since the last message)"),
            };
            log::warn!("{}{more}", text());
        }
    }

    /// How many were not told, if it is time to tell one.
    fn turn(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < PACE) {
            *untold += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_next_are_counted() {
        let complaint = Complaint::default();
        assert_eq!(complaint.turn(), Some(0));
        assert_eq!([(); 5].map(|()| complaint.turn()), [None; 5]);
        complaint.0.lock().unwrap().0 = None;
        assert_eq!(complaint.turn(), Some(5));
    }
}
