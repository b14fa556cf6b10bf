//! Writes instances with the bare client, and knows how soon etcd confirmed.

use std::time::Duration;

use etcd_client::Client;
use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::now;
use crate::told::instance;

/// Writes one instance so many times, at a pace, and gives how many microseconds etcd took for each, the
/// least first.
pub async fn steady(client: &mut Client, times: u32, pace: Duration) -> Result<Vec<f64>, String> {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut acks = Vec::new();
    for _ in 0..times {
        ticks.tick().await;
        acks.push(put(client.clone(), 0).await?);
    }
    acks.sort_by(f64::total_cmp);
    Ok(acks)
}

/// Writes so many instances at once.
pub async fn burst(client: &Client, instances: u64) -> Result<(), String> {
    try_join_all((0..instances).map(|number| put(client.clone(), number))).await?;
    Ok(())
}

/// Writes an instance that says when that was, and gives how long it took.
pub async fn put(mut client: Client, number: u64) -> Result<f64, String> {
    let key = format!("/discover/services/bench-0/{}:1000", instance(number));
    let began = now();
    let value = format!("{{\"t\":\"{began}\",\"zone\":\"eu-central-1\",\"version\":\"1.4.2\"}}");
    client
        .put(key, value, None)
        .await
        .map_err(|e| e.to_string())?;
    Ok((now() - began) as f64)
}
