//! Channel that merges items that were not received yet: a slow receiver gets one item instead of many, and
//! an idle channel needs no buffer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::stream::Stream;

use crate::error::Result;
use crate::kv::{Change, Changes};

/// Sending half. The stream ends when it is dropped.
pub(super) struct CoalescingSender(SharedQueue);

/// Receiving half.
pub(super) struct CoalescingReceiver(SharedQueue);

type SharedQueue = Arc<Mutex<Queue>>;

#[derive(Default)]
struct Queue {
    items: VecDeque<Result<Changes>>,
    waker: Option<Waker>,
    is_closed: bool,
}

/// Creates a channel.
pub(super) fn coalescing_channel() -> (CoalescingSender, CoalescingReceiver) {
    let shared = SharedQueue::default();
    (CoalescingSender(shared.clone()), CoalescingReceiver(shared))
}

fn lock(shared: &SharedQueue) -> MutexGuard<'_, Queue> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the receiver after unlocking.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl CoalescingSender {
    pub(super) fn send(&self, item: Result<Changes>) {
        let mut queue = lock(&self.0);
        match (queue.items.back_mut(), item) {
            (Some(Ok(last)), Ok(next)) if can_append(last, &next) => {
                last.revision = next.revision;
                last.changes.extend(next.changes);
            }
            (_, item) => queue.items.push_back(item),
        }
        wake(queue);
    }
}

/// Returns true if `next` can be appended to `last`: same epoch, later revision, no Reset.
fn can_append(last: &Changes, next: &Changes) -> bool {
    let is_reset = |change: &Change| matches!(change, Change::Reset(_));
    last.epoch == next.epoch && last.revision <= next.revision && !next.changes.iter().any(is_reset)
}

impl Drop for CoalescingSender {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.is_closed = true;
        wake(queue);
    }
}

impl Stream for CoalescingReceiver {
    type Item = Result<Changes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Changes>>> {
        let mut queue = lock(&self.0);
        if let Some(item) = queue.items.pop_front() {
            if queue.items.is_empty() {
                // Releases the buffer: items are rare.
                queue.items = VecDeque::new();
            }
            return Poll::Ready(Some(item));
        }
        if queue.is_closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::kv::Key;
    use futures_util::{FutureExt, StreamExt};

    fn delete(epoch: u64, revision: u64) -> Result<Changes> {
        let changes = vec![Change::Delete(Key::new(&format!("/{revision}")).unwrap())];
        Ok(Changes {
            epoch,
            revision,
            changes,
        })
    }

    fn reset(epoch: u64, revision: u64) -> Result<Changes> {
        let changes = vec![Change::Reset(Vec::new())];
        Ok(Changes {
            epoch,
            revision,
            changes,
        })
    }

    /// Returns the revision and the number of changes of each item that is available; an error is 0.
    fn found(receiver: &mut CoalescingReceiver) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        while let Some(Some(item)) = receiver.next().now_or_never() {
            found.push(item.map_or((0, 0), |item| (item.revision, item.changes.len())));
        }
        found
    }

    #[test]
    fn items_that_were_not_received_are_merged_and_none_is_lost() {
        let (sender, mut receiver) = coalescing_channel();
        assert_eq!(found(&mut receiver), []);
        sender.send(reset(1, 3));
        sender.send(delete(1, 4));
        sender.send(delete(1, 5));
        assert_eq!(found(&mut receiver), [(5, 3)]);
        sender.send(delete(1, 6));
        sender.send(Err(Error::new(ErrorKind::Unavailable, "away")));
        sender.send(delete(1, 7));
        sender.send(reset(1, 8));
        // A new epoch is not merged with the last.
        sender.send(delete(2, 2));
        assert_eq!(
            found(&mut receiver),
            [(6, 1), (0, 0), (7, 1), (8, 1), (2, 1)]
        );
    }

    #[tokio::test]
    async fn a_waiting_receiver_is_woken_and_receives_the_end_last() {
        let (sender, mut receiver) = coalescing_channel();
        let waker = tokio::spawn(async move {
            let first = receiver.next().await;
            (first.is_some(), receiver.next().await.is_some())
        });
        tokio::task::yield_now().await;
        sender.send(delete(1, 1));
        drop(sender);
        assert_eq!(waker.await.unwrap(), (true, false));
    }
}
