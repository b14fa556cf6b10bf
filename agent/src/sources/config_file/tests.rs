use discover_core::{Client, Event};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::net::quota::QuotaLimits;
use crate::service_cache::ServiceCache;

fn services(text: &str) -> Vec<Service> {
    #[derive(serde::Deserialize)]
    struct File {
        service: Vec<Service>,
    }
    let file: File = toml::from_str(text).unwrap();
    file.service
}

#[tokio::test]
async fn a_service_stays_online_while_its_tags_change() {
    let url = format!("memory://{:016x}", fastrand::u64(..));
    let client = Client::connect(&url).await.unwrap();
    let service_cache = ServiceCache::new(client.clone(), "boot".to_owned(), 9);
    let address = [127, 0, 0, 1].into();
    let limits = QuotaLimits {
        count: None,
        bytes: None,
    };
    let registry = Registry::new(client.clone(), service_cache, address, limits);
    let _tending = tokio::spawn(registry.clone().reconcile());
    let checks = Arc::new(Checks::new(registry.clone(), 9));
    let component = ConfigFileServices::new(registry, checks, address);
    let set = client.services("web").unwrap();
    let mut events = set.subscribe();
    let mut until = async |wanted: &str| {
        let received = async {
            loop {
                match events.next().await.unwrap() {
                    Event::Up(instance) | Event::Update(instance)
                        if instance.tags() == [wanted] =>
                    {
                        return;
                    }
                    Event::Down(instance) => panic!("{} went offline", instance.id()),
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(60), received).await.unwrap();
    };
    let header = "[[service]]\nname = 'web'\nport = 1\n";
    for tag in ["blue", "green"] {
        let wanted = services(&format!("{header}tags = ['{tag}']\n"));
        let prepared = component.prepare(&wanted).await.unwrap();
        component.commit(prepared).await;
        until(tag).await;
    }
    assert_eq!(component.registered.lock().await.len(), 1);
}
