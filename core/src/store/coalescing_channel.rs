//! Where who follows a part finds what it is told. What was not fetched yet lies together: whoever comes
//! late finds one item, and who is told nothing costs nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::stream::Stream;

use crate::error::Result;
use crate::kv::{Change, Changes};

/// Who tells. The stream ends with it.
pub(super) struct CoalescingSender(Shared);

/// Who is told.
pub(super) struct CoalescingReceiver(Shared);

type Shared = Arc<Mutex<Inside>>;

#[derive(Default)]
struct Inside {
    told: VecDeque<Result<Changes>>,
    waits: Option<Waker>,
    ended: bool,
}

/// A new one.
pub(super) fn coalescing_channel() -> (CoalescingSender, CoalescingReceiver) {
    let shared = Shared::default();
    (CoalescingSender(shared.clone()), CoalescingReceiver(shared))
}

fn open(shared: &Shared) -> MutexGuard<'_, Inside> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes whoever waits, with nothing locked.
fn wake(mut inside: MutexGuard<'_, Inside>) {
    let waits = inside.waits.take();
    drop(inside);
    if let Some(waits) = waits {
        waits.wake();
    }
}

impl CoalescingSender {
    pub(super) fn tell(&self, item: Result<Changes>) {
        let mut inside = open(&self.0);
        match (inside.told.back_mut(), item) {
            (Some(Ok(last)), Ok(next)) if goes_on(last, &next) => {
                last.revision = next.revision;
                last.changes.extend(next.changes);
            }
            (_, item) => inside.told.push_back(item),
        }
        wake(inside);
    }
}

/// Whether both are whole revisions of one history, one after the other, and so are together.
fn goes_on(last: &Changes, next: &Changes) -> bool {
    let begins_anew = |change: &Change| matches!(change, Change::Reset(_));
    last.epoch == next.epoch
        && last.revision <= next.revision
        && !next.changes.iter().any(begins_anew)
}

impl Drop for CoalescingSender {
    fn drop(&mut self) {
        let mut inside = open(&self.0);
        inside.ended = true;
        wake(inside);
    }
}

impl Stream for CoalescingReceiver {
    type Item = Result<Changes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Changes>>> {
        let mut inside = open(&self.0);
        if let Some(item) = inside.told.pop_front() {
            if inside.told.is_empty() {
                // A place for what rarely comes is not worth keeping.
                inside.told = VecDeque::new();
            }
            return Poll::Ready(Some(item));
        }
        if inside.ended {
            return Poll::Ready(None);
        }
        inside.waits = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::kv::Key;
    use futures_util::{FutureExt, StreamExt};

    fn gone(epoch: u64, revision: u64) -> Result<Changes> {
        let changes = vec![Change::Delete(Key::new(&format!("/{revision}")).unwrap())];
        Ok(Changes {
            epoch,
            revision,
            changes,
        })
    }

    fn all(epoch: u64, revision: u64) -> Result<Changes> {
        let changes = vec![Change::Reset(Vec::new())];
        Ok(Changes {
            epoch,
            revision,
            changes,
        })
    }

    /// The revision and the number of changes of each item that is there, 0 for an error.
    fn found(coalescing_channel: &mut CoalescingReceiver) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        while let Some(Some(item)) = coalescing_channel.next().now_or_never() {
            found.push(item.map_or((0, 0), |item| (item.revision, item.changes.len())));
        }
        found
    }

    #[test]
    fn what_was_not_fetched_lies_together_and_nothing_is_passed_over() {
        let (sink, mut coalescing_channel) = coalescing_channel();
        assert_eq!(found(&mut coalescing_channel), []);
        sink.tell(all(1, 3));
        sink.tell(gone(1, 4));
        sink.tell(gone(1, 5));
        assert_eq!(found(&mut coalescing_channel), [(5, 3)]);
        sink.tell(gone(1, 6));
        sink.tell(Err(Error::new(ErrorKind::Unavailable, "away")));
        sink.tell(gone(1, 7));
        sink.tell(all(1, 8));
        // Another history begins with its own.
        sink.tell(gone(2, 2));
        assert_eq!(
            found(&mut coalescing_channel),
            [(6, 1), (0, 0), (7, 1), (8, 1), (2, 1)]
        );
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_told_of_the_end_last() {
        let (sink, mut coalescing_channel) = coalescing_channel();
        let waits = tokio::spawn(async move {
            let first = coalescing_channel.next().await;
            (first.is_some(), coalescing_channel.next().await.is_some())
        });
        tokio::task::yield_now().await;
        sink.tell(gone(1, 1));
        drop(sink);
        assert_eq!(waits.await.unwrap(), (true, false));
    }
}
