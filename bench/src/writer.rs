//! Writes instances with the plain client and measures when etcd confirms.

use std::time::Duration;

use etcd_client::Client;
use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval};

use crate::protocol::instance_host;
use discover_testkit::clock::now;

/// Writes one instance repeatedly at an interval, and returns the sorted confirmation times in microseconds.
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

/// Writes this many instances at once.
pub async fn burst(client: &Client, instances: u64) -> Result<(), String> {
    try_join_all((0..instances).map(|number| put(client.clone(), number))).await?;
    Ok(())
}

/// Writes an instance whose value contains the time, and returns how long it took.
pub async fn put(mut client: Client, number: u64) -> Result<f64, String> {
    let key = format!("/discover/services/bench-0/{}:1000", instance_host(number));
    let began = now();
    let value = format!("{{\"t\":\"{began}\",\"zone\":\"eu-central-1\",\"version\":\"1.4.2\"}}");
    client
        .put(key, value, None)
        .await
        .map_err(|e| e.to_string())?;
    Ok((now() - began) as f64)
}
