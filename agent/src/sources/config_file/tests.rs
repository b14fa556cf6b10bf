use std::time::Duration;

use discover_core::Event;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::service_cache::ServiceCache;

fn plan(text: &str) -> Plan {
    #[derive(serde::Deserialize)]
    struct File {
        service: Vec<Service>,
    }
    let file: File = toml::from_str(text).unwrap();
    Plan::new(file.service, Vec::new()).unwrap()
}

#[tokio::test]
async fn a_service_that_changes_its_tags_is_seen_all_the_while() {
    let url = format!("memory://{:016x}", fastrand::u64(..));
    let client = Client::connect(&url).await.unwrap();
    let sets = ServiceCache::new(client.clone(), "boot".to_owned(), 9);
    let address = [127, 0, 0, 1].into();
    let registry = Registry::new(client.clone(), sets, address);
    let _tending = tokio::spawn(registry.clone().tend());
    let checks = Arc::new(Checks::new(registry.clone()));
    let jobs = ConfigFileServices::new(client.clone(), registry, checks, address);
    let set = client.services("web").unwrap();
    let mut events = set.subscribe();
    let mut until = async |wanted: &str| {
        let heard = async {
            loop {
                match events.next().await.unwrap() {
                    Event::Up(one) | Event::Update(one) if one.tags() == [wanted] => return,
                    Event::Down(one) => panic!("{} went", one.id()),
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(60), heard).await.unwrap();
    };
    let one = "[[service]]\nname = 'web'\nport = 1\n";
    jobs.apply(plan(&format!("{one}tags = ['blue']\n")))
        .await
        .unwrap();
    until("blue").await;
    jobs.apply(plan(&format!("{one}tags = ['green']\n")))
        .await
        .unwrap();
    until("green").await;
    assert_eq!(jobs.counts().await.0, 1);
}
