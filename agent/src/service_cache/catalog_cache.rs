//! The names of all services, asked of the store once for all who want to know.

use std::time::Duration;

use discover_core::{Result, ServiceName};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// See the module.
#[derive(Default)]
pub struct CatalogCache(Mutex<Option<(Instant, Result<Vec<ServiceName>>)>>);

impl CatalogCache {
    /// What was said no longer ago than this, or what is said now. Whoever comes meanwhile waits for the
    /// same answer.
    pub async fn within<F>(
        &self,
        age: Duration,
        ask: impl FnOnce() -> F,
    ) -> Result<Vec<ServiceName>>
    where
        F: Future<Output = Result<Vec<ServiceName>>>,
    {
        let mut last = self.0.lock().await;
        if let Some((at, said)) = &*last
            && at.elapsed() < age
        {
            return said.clone();
        }
        let said = ask().await;
        *last = Some((Instant::now(), said.clone()));
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_who_ask_are_one_who_asks() {
        let (names, asked) = (CatalogCache::default(), AtomicUsize::new(0));
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![ServiceName::new("web")?])
        };
        let age = Duration::from_secs(3600);
        let all = join_all((0..50).map(|_| names.within(age, ask))).await;
        assert!(all.iter().all(|said| said.as_ref().unwrap().len() == 1));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        names.within(Duration::ZERO, ask).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "that was too old");
    }
}
