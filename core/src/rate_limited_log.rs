//! Rate limit for log messages about malformed data that others write to the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Limits one kind of log message to one a second and counts the suppressed messages.
#[derive(Default)]
pub(crate) struct LogRateLimit(Mutex<RateLimitState>);

#[derive(Default)]
struct RateLimitState {
    last_message: Option<Instant>,
    suppressed: u64,
}

impl LogRateLimit {
    /// Returns the number of messages suppressed since the last one if a message may be logged now.
    /// Otherwise counts one more suppressed message and returns none.
    pub(crate) fn permit(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last_message
            .is_some_and(|last| last.elapsed() < MIN_INTERVAL)
        {
            state.suppressed += 1;
            return None;
        }
        state.last_message = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_message_is_permitted_and_the_next_are_counted() {
        let limit = LogRateLimit::default();
        assert_eq!(limit.permit(), Some(0));
        assert_eq!([(); 5].map(|()| limit.permit()), [None; 5]);
        tokio::time::advance(MIN_INTERVAL).await;
        assert_eq!(limit.permit(), Some(5));
    }
}
