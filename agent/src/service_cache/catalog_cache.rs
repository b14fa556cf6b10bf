//! Cache of the names of all services, read from the store once for all concurrent requests.

use std::time::Duration;

use discover_core::{Result, ServiceName};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Names of all services, with the time of the last read.
#[derive(Default)]
pub struct CatalogCache(Mutex<Option<(Instant, Result<Vec<ServiceName>>)>>);

impl CatalogCache {
    /// Returns the last result if it is at most `age` old, else the result of `fetch`. Concurrent callers
    /// wait for the same result.
    pub async fn get_or_fetch<F>(
        &self,
        age: Duration,
        fetch: impl FnOnce() -> F,
    ) -> Result<Vec<ServiceName>>
    where
        F: Future<Output = Result<Vec<ServiceName>>>,
    {
        let mut last = self.0.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < age
        {
            return result.clone();
        }
        let result = fetch().await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn concurrent_requests_share_one_read() {
        let (names, fetches) = (CatalogCache::default(), AtomicUsize::new(0));
        let fetch = async || {
            fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![ServiceName::new("web")?])
        };
        let age = Duration::from_secs(3600);
        let all = join_all((0..50).map(|_| names.get_or_fetch(age, fetch))).await;
        assert!(all.iter().all(|result| result.as_ref().unwrap().len() == 1));
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
        names.get_or_fetch(Duration::ZERO, fetch).await.unwrap();
        assert_eq!(
            fetches.load(Ordering::Relaxed),
            2,
            "the cached result was too old"
        );
    }
}
