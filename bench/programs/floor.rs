//! The floor: the same operations with the plain etcd client crate, or with the kernel. It decodes the same values into
//! the same kind of map, without error recovery. See README.md of the benchmarks.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use discover_bench::cost::cost;
use discover_bench::protocol::{instance_host, report, report_ready, wait_for_stop};
use discover_testkit::clock::now;
use etcd_client::{Client, EventType, GetOptions, KvClient, PutOptions, WatchOptions};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Map, Value, json};

const WORKERS: u64 = 64;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["follow", url, count] => follow(address(url), count.parse()?).await,
        ["streams", url, count] => streams(address(url), count.parse()?).await,
        ["replay", url, from] => replay(address(url), from.parse()?).await,
        ["register", url, count] => register(address(url), count.parse()?).await,
        ["read"] => read(),
        ["inotify", folder] => inotify(Path::new(folder)),
        _ => Err("usage: bench-floor follow|streams|register URL COUNT | replay URL REVISION | read | inotify FOLDER".into()),
    }
}

/// Returns `HOST:PORT` of a URL `etcd://HOST:PORT/?…`.
fn address(url: &str) -> &str {
    let bare = url.strip_prefix("etcd://").unwrap_or(url);
    bare.split('/').next().unwrap_or(bare)
}

/// Lists all instances and watches each service, all on one stream.
async fn follow(address: &str, count: u64) -> Outcome {
    let began = now();
    let mut client = Client::connect([address], None).await?;
    // The default limit of the crate is 4 MB.
    let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
    let all = kv
        .get("/discover/services/", Some(GetOptions::new().with_prefix()))
        .await?;
    let mut known: HashMap<Vec<u8>, Map<String, Value>> = HashMap::new();
    for kv in all.kvs() {
        known.insert(kv.key().to_vec(), decode(kv.value()));
    }
    let from = all.header().map_or(0, |header| header.revision()) + 1;
    drop(all);
    let options = || WatchOptions::new().with_prefix().with_start_revision(from);
    let mut stream = client
        .watch("/discover/services/bench-0/", Some(options()))
        .await?;
    for number in 1..count {
        let key = format!("/discover/services/bench-{number}/");
        stream.watch(key, Some(options())).await?;
    }
    for _ in 1..count {
        stream.message().await?;
    }
    report_ready(began);
    listen(stream, known).await
}

/// Watches each service on a stream of its own.
async fn streams(address: &str, count: u64) -> Outcome {
    let began = now();
    let mut client = Client::connect([address], None).await?;
    let mut streams = Vec::new();
    for number in 0..count {
        let key = format!("/discover/services/bench-{number}/");
        let options = Some(WatchOptions::new().with_prefix());
        streams.push(client.watch(key, options).await?);
    }
    report_ready(began);
    let _ = wait_for_stop().await;
    report(&json!({"streams": streams.len()}));
    Ok(())
}

/// Watches from a revision on, like a client that reconnects and receives everything it missed.
async fn replay(address: &str, from: i64) -> Outcome {
    let began = now();
    let mut client = Client::connect([address], None).await?;
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let stream = client.watch("/discover/services/", Some(options)).await?;
    report_ready(began);
    listen(stream, HashMap::new()).await
}

async fn listen(
    mut stream: etcd_client::WatchStream,
    mut known: HashMap<Vec<u8>, Map<String, Value>>,
) -> Outcome {
    let mut latencies = Vec::new();
    let mut last = 0;
    let mut end = wait_for_stop();
    loop {
        let told = tokio::select! {
            told = stream.message() => told?,
            _ = &mut end => break,
        };
        for event in told.iter().flat_map(|told| told.events()) {
            let Some(kv) = event.kv() else { continue };
            if event.event_type() == EventType::Delete {
                known.remove(kv.key());
                continue;
            }
            let attributes = decode(kv.value());
            let written = attributes.get("t").and_then(Value::as_str);
            if let Some(written) = written.and_then(|text| text.parse::<u64>().ok()) {
                last = now();
                latencies.push(last.saturating_sub(written));
            }
            known.insert(kv.key().to_vec(), attributes);
        }
    }
    report(&json!({"latencies": latencies, "last": last, "online": known.len()}));
    Ok(())
}

fn decode(value: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(value).unwrap_or_default()
}

/// Registers each instance with its own lease and keepalive stream, as the examples of etcd do.
async fn register(address: &str, count: u64) -> Outcome {
    let began = now();
    let client = Client::connect([address], None).await?;
    let next = Arc::new(AtomicU64::new(0));
    let work = |client: Client, next: Arc<AtomicU64>| async move {
        let mut kept = Vec::new();
        let mut kv: KvClient = client.kv_client();
        let mut leases = client.lease_client();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(kept);
            }
            let lease = leases.grant(15, None).await?.id();
            let key = format!("/discover/services/bench-0/{}:1000", instance_host(number));
            kv.put(key, "null", Some(PutOptions::new().with_lease(lease)))
                .await?;
            let (mut keeper, mut answers) = leases.keep_alive(lease).await?;
            kept.push(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(std::time::Duration::from_secs(5)).await; // tidy: sleep, the pace of renewals
                    if keeper.keep_alive().await.is_err() || answers.message().await.is_err() {
                        return;
                    }
                }
            }));
        }
    };
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| tokio::spawn(work(client.clone(), next.clone())))
        .collect();
    let mut kept = Vec::new();
    for worker in workers {
        let made: Result<Vec<_>, etcd_client::Error> = worker.await?;
        kept.extend(made?);
    }
    report_ready(began);
    let _ = wait_for_stop().await;
    report(&json!({"registered": kept.len()}));
    kept.iter().for_each(|keeper| keeper.abort());
    Ok(())
}

/// Measures reads of a slice behind a swappable pointer: by reference, cloned, and looked up by name among a
/// thousand.
fn read() -> Outcome {
    let ten: Vec<Arc<str>> = (0..10).map(|n| Arc::from(instance_host(n))).collect();
    let online = Arc::new(ArcSwap::from_pointee(ten));
    let turn = AtomicUsize::new(0);
    let pick = || {
        let all = online.load();
        all.get(turn.fetch_add(1, Ordering::Relaxed) % all.len())
            .cloned()
    };
    let names = (0..1000).map(|number| (format!("bench-{number}"), online.clone()));
    let names = RwLock::new(names.collect::<HashMap<_, _>>());
    let named = || names.read().map(|names| names.get("bench-0").cloned());
    report(&json!({
        "online": cost(|| online.load().len()),
        "owned": cost(|| online.load_full().len()),
        "pick": cost(|| pick().is_some()),
        "named": cost(|| named().is_ok_and(|found| found.is_some())),
    }));
    Ok(())
}

/// Reads each file that is moved into a directory, and detects when the owner of a file exits.
fn inotify(folder: &Path) -> Outcome {
    let began = now();
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
    inotify.add_watch(folder, flags)?;
    report_ready(began);
    let ended = Arc::new(AtomicBool::new(false));
    let ends = ended.clone();
    let waker = folder.to_owned();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ends.store(true, Ordering::SeqCst);
        let _ = std::fs::write(waker.join("end"), "");
    });
    let (mut latencies, mut downs): (Vec<u64>, Vec<u64>) = Default::default();
    while !ended.load(Ordering::SeqCst) {
        for event in inotify.read_events()? {
            let Some(file) = event.name.map(|name| folder.join(name)) else {
                continue;
            };
            if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
                let attributes = decode(&std::fs::read(file).unwrap_or_default());
                let written = attributes.get("t").and_then(Value::as_str);
                let written = written.and_then(|text| text.parse::<u64>().ok());
                latencies.extend(written.map(|written| now().saturating_sub(written)));
            } else if !ended.load(Ordering::SeqCst) {
                downs.extend(unlocked(&file));
            }
        }
    }
    report(&json!({"latencies": latencies, "downs": downs}));
    Ok(())
}

/// Returns the time at which a closed file is unlocked: the kernel releases the lock just after it reports the close.
fn unlocked(file: &Path) -> Option<u64> {
    let mut file = File::open(file).ok()?;
    loop {
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => return Some(now()),
            Err((locked, _)) => file = locked,
        }
        std::thread::yield_now();
    }
}
