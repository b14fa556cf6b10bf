//! A custom backend, added with a scheme and a constructor.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use discover_core::{
    Backend, COMMON_OPTIONS, Client, ErrorKind, Grant, InstanceOrder, OnConflict, Registration,
    Result, ServiceName, Url, View,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{self, BoxStream, StreamExt};

/// A read-only registry with the list of instances in its URL: `fixed://h1:1,h2:2`.
struct FixedBackend(Vec<String>);

impl FixedBackend {
    fn open(uri: &Url) -> Result<Arc<dyn Backend>> {
        uri.expect_options(&COMMON_OPTIONS)?;
        Ok(Arc::new(FixedBackend(
            uri.hosts().map(str::to_owned).collect(),
        )))
    }
}

fn read_only<T>() -> Result<T> {
    Err(discover_core::Error::new(
        ErrorKind::Unsupported,
        "fixed:// is read-only",
    ))
}

impl Backend for FixedBackend {
    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn register<'a>(&'a self, _: &'a Registration, _: OnConflict) -> BoxFuture<'a, Result<Grant>> {
        ready(read_only()).boxed()
    }

    fn heartbeat<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(read_only()).boxed()
    }

    fn update<'a>(
        &'a self,
        _: &'a Registration,
        _: Grant,
        _: OnConflict,
    ) -> BoxFuture<'a, Result<()>> {
        ready(read_only()).boxed()
    }

    fn unregister<'a>(&'a self, _: &'a Registration, _: Grant) -> BoxFuture<'a, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn subscribe(&self, service: &ServiceName, _: View) -> BoxStream<'static, Result<View>> {
        let instance = |(age, address): (usize, &String)| {
            let instance = Registration::at(service.as_str(), address)
                .unwrap()
                .instance(age as u64);
            (
                InstanceOrder {
                    created: age as u64,
                    id: instance.id().into(),
                },
                Arc::new(instance),
            )
        };
        let instances = self.0.iter().enumerate().map(instance).collect();
        let view = View {
            instances,
            ..View::default()
        };
        stream::iter([Ok(view)]).chain(stream::pending()).boxed()
    }

    fn local_address(&self) -> BoxFuture<'_, Result<IpAddr>> {
        ready(Ok([127, 0, 0, 1].into())).boxed()
    }
}

#[tokio::test]
async fn a_custom_backend_supports_all_features_of_the_client() {
    let connect = |url: &str| {
        Client::builder()
            .backend("fixed", FixedBackend::open)
            .url(url)
            .connect()
    };
    let client = connect("fixed://a:1,b:2,c:3").await.unwrap();
    let set = client.services("web").unwrap();
    let online = set.wait(3, Duration::from_secs(30)).await.unwrap();
    assert_eq!(
        online.iter().map(|i| i.address()).collect::<Vec<_>>(),
        ["a:1", "b:2", "c:3"]
    );
    assert_eq!(set.leader().unwrap().address(), "a:1");
    let refused = client
        .register(Registration::new("web", 1).unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let unknown = connect("fixes://a:1").await.unwrap_err().to_string();
    assert!(
        unknown.contains("fixed"),
        "the known schemes have it: {unknown}"
    );
}
