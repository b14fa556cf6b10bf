//! The measured program in Rust; see README.md of the benchmarks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use discover_bench::cost::cost;
use discover_bench::protocol::{instance_host, report, report_ready, wait_for_stop};
use discover_core::{Client, Event, Heartbeat, Lease, Policy, Registration, Result, ServiceSet};
use discover_testkit::clock::now;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

/// Number of concurrent registrations.
const WORKERS: u64 = 64;
/// Interval between two rounds of heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let count = |word: &str| word.parse().unwrap_or(1);
    match words.as_slice() {
        ["follow", url, number] => follow(url, count(number)).await,
        ["register", url, number] => register(url, count(number)).await,
        ["alone", url, number] => alone(url, count(number)).await,
        ["both", url, services, instances] => both(url, count(services), count(instances)).await,
        ["read", url] => read(url).await,
        _ => panic!(
            "usage: bench-rust follow|register|alone URL COUNT | both URL SERVICES INSTANCES | read URL"
        ),
    }
}

async fn follow(url: &str, count: u64) -> Result<()> {
    let began = now();
    let client = Client::connect(url).await?;
    let sets: Vec<ServiceSet> = (0..count)
        .map(|number| client.services(&format!("bench-{number}")))
        .collect::<Result<_>>()?;
    let (sender, mut events) = mpsc::unbounded_channel();
    for set in &sets {
        let (mut heard, sender) = (set.subscribe(), sender.clone());
        tokio::spawn(async move {
            while let Some(event) = heard.next().await {
                let _ = sender.send((now(), event));
            }
        });
    }
    let (mut latencies, mut downs, mut waiting) = (Vec::new(), Vec::new(), count);
    let mut end = wait_for_stop();
    loop {
        let (at, event) = tokio::select! {
            Some(heard) = events.recv() => heard,
            _ = &mut end => break,
        };
        match &event {
            Event::Up(instance) | Event::Update(instance) => {
                let written = instance.attributes().get("t");
                let written = written.and_then(|text| text.parse::<u64>().ok());
                latencies.extend(written.map(|written| at.saturating_sub(written)));
            }
            Event::Down(_) => downs.push(at),
            Event::Current => {
                waiting -= 1;
                if waiting == 0 {
                    report_ready(began);
                }
            }
            _ => {}
        }
    }
    let online: usize = sets.iter().map(|set| set.online().len()).sum();
    report(&json!({"latencies": latencies, "downs": downs, "online": online}));
    client.close(Duration::from_secs(5)).await
}

async fn register(url: &str, count: u64) -> Result<()> {
    let began = now();
    let client = Client::connect(url).await?;
    let leases = enroll(&client, count, Heartbeat::Automatic).await?;
    report_ready(began);
    let _ = wait_for_stop().await;
    report(&json!({"registered": leases.len()}));
    // Not closed: unregistering each instance is not part of this measurement.
    std::mem::forget((leases, client));
    Ok(())
}

/// Registers each instance with its own lease, and renews each lease separately.
async fn alone(url: &str, count: u64) -> Result<()> {
    let began = now();
    let client = Client::connect(url).await?;
    let leases = enroll(&client, count, Heartbeat::Manual).await?;
    report_ready(began);
    let (mut end, mut renewed) = (wait_for_stop(), 0);
    loop {
        tokio::select! {
            _ = &mut end => break,
            () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {}
        }
        for lease in &leases {
            lease.heartbeat().await?;
            renewed += 1;
        }
    }
    report(&json!({"renewed": renewed}));
    std::mem::forget((leases, client));
    Ok(())
}

async fn enroll(client: &Client, count: u64, heartbeat: Heartbeat) -> Result<Vec<Lease>> {
    let next = Arc::new(AtomicU64::new(0));
    let work = |client: Client, next: Arc<AtomicU64>| async move {
        let mut leases = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(leases);
            }
            let registration = Registration::new("bench-0", 1000)?.host(&instance_host(number))?;
            let registration = registration.heartbeat(heartbeat);
            leases.push(client.register(registration).await?);
        }
    };
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(work(client.clone(), next.clone())))
        .collect();
    let mut leases = Vec::new();
    for worker in workers {
        let made: Result<Vec<_>> = worker.await.expect("it does not panic");
        leases.extend(made?);
    }
    Ok(leases)
}

/// Watches services and registers instances under other names, so that an idle client receives no events.
async fn both(url: &str, services: u64, instances: u64) -> Result<()> {
    let began = now();
    let client = Client::connect(url).await?;
    let mut followed = Vec::new();
    for number in 1..=services {
        let set = client.services(&format!("bench-{number}"))?;
        let mut heard = set.subscribe();
        while !matches!(heard.next().await, Some(Event::Current) | None) {}
        followed.push((set, heard));
    }
    let leases = enroll(&client, instances, Heartbeat::Automatic).await?;
    report_ready(began);
    let _ = wait_for_stop().await;
    report(&json!({"registered": leases.len(), "followed": followed.len()}));
    std::mem::forget((leases, followed, client));
    Ok(())
}

async fn read(url: &str) -> Result<()> {
    let client = Client::connect(url).await?;
    let mut leases = Vec::new();
    for port in 0..10 {
        let registration = Registration::new("bench-0", 1000 + port)?.host("10.0.0.1")?;
        leases.push(client.register(registration).await?);
    }
    let all: Vec<ServiceSet> = (0..1000)
        .map(|number| client.services(&format!("bench-{number}")))
        .collect::<Result<_>>()?;
    let set = &all[0];
    set.wait(10, Duration::from_secs(10)).await?;
    let measure = || {
        let online = cost(|| set.online().len());
        let pick = cost(|| set.pick(Policy::RoundRobin).is_some());
        let named = cost(|| client.services("bench-0").is_ok());
        (online, pick, named)
    };
    let alone = measure();
    let (lease, writing) = (leases.swap_remove(0), Arc::new(()));
    let still = Arc::downgrade(&writing);
    let writer = tokio::spawn(async move {
        let mut turn = 0_u64;
        while still.strong_count() > 0 {
            turn += 1;
            lease.update([("turn", turn.to_string())]).await?;
            tokio::time::sleep(Duration::from_micros(200)).await; // tidy: sleep, a writer at a pace
        }
        Result::Ok(())
    });
    let beside = measure();
    drop(writing);
    writer.await.expect("it does not panic")?;
    report(&json!({
        "online": alone.0, "pick": alone.1, "named": alone.2,
        "online_written": beside.0, "pick_written": beside.1, "named_written": beside.2,
    }));
    Ok(())
}
