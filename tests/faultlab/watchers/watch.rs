//! A program under test of the fault lab: `faults-watch URL HOST PORT COUNT INTERVAL_MS SERVICE...` registers COUNT
//! instances of the service `members` from HOST:PORT on, watches each SERVICE, and prints everything that it sees as lines
//! of JSON until its input ends. See watchers/README.md.

use std::io::Read;
use std::time::Duration;

use discover_core::{Client, Cursor, Lease, Registration, Snapshot};
use serde_json::{Map, Value, json};

use discover_testkit::clock::now;

type RunResult = Result<(), Box<dyn std::error::Error>>;

struct WatchedService {
    service: String,
    cursor: Cursor,
    version: u64,
}

struct Registered {
    lease: Lease,
    standing: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        println!("{}", json!({"kind": "error", "text": error.to_string()}));
    }
}

async fn run() -> RunResult {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, host, port, count, interval, services @ ..] = arguments.as_slice() else {
        return Err("usage: faults-watch URL HOST PORT COUNT INTERVAL_MS SERVICE...".into());
    };
    let client = Client::connect(url).await?;
    let mut registrations = Vec::new();
    for number in 0..count.parse::<i64>()? {
        let registration = Registration::new("members", port.parse::<i64>()? + number)?;
        let registration = registration
            .host(host)?
            .attributes([("language", "rust")])?;
        let lease = client.register(registration).await?;
        registrations.push(Registered {
            lease,
            standing: "",
        });
    }
    let mut services_watched = Vec::new();
    for service in services {
        let cursor = client.services(service)?.cursor();
        services_watched.push(WatchedService {
            service: service.clone(),
            cursor,
            version: u64::MAX,
        });
    }
    report_standing(&mut registrations);
    println!("{}", json!({"kind": "ready", "t": now()}));

    let interval = Duration::from_millis(interval.parse()?);
    let (stop, mut stopping) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(stop);
    });
    while tokio::time::timeout(interval, &mut stopping).await.is_err() {
        services_watched.iter_mut().for_each(report);
        report_standing(&mut registrations);
    }
    services_watched.iter_mut().for_each(report);
    let metrics: Map<_, _> = client
        .metrics()
        .fields()
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    println!("{}", json!({"kind": "metrics", "values": metrics}));
    if let Err(error) = client.close(Duration::from_secs(8)).await {
        println!("{}", json!({"kind": "left", "text": error.to_string()}));
    }
    Ok(())
}

/// Prints the new events of a set, and its snapshot if that has changed.
fn report(watched: &mut WatchedService) {
    for event in watched.cursor.drain() {
        if let ("up" | "update" | "down", Some(instance)) = (event.kind(), event.instance()) {
            let (id, created) = (instance.id(), instance.created());
            let event = json!({"kind": "event", "t": now(), "service": watched.service,
                              "event": event.kind(), "id": id, "created": created});
            println!("{event}");
        }
    }
    let snapshot = watched.cursor.seen().clone();
    if snapshot.version() != watched.version {
        watched.version = snapshot.version();
        println!(
            "{}",
            json!({"kind": "snapshot", "t": now(), "service": watched.service,
                   "state": snapshot.state().name(), "revision": snapshot.revision(),
                   "set": set(&snapshot)})
        );
    }
}

fn set(snapshot: &Snapshot) -> Value {
    let one = |instance: &std::sync::Arc<discover_core::Instance>| {
        let value = json!({"created": instance.created(), "attributes": instance.attributes(),
                           "suspect": instance.is_suspect()});
        (instance.id().to_owned(), value)
    };
    Value::Object(snapshot.online().iter().map(one).collect::<Map<_, _>>())
}

fn report_standing(registrations: &mut [Registered]) {
    for Registered { lease, standing } in registrations {
        let current = lease.standing().name();
        if *standing != current {
            *standing = current;
            let id = lease.registration().instance_id();
            println!(
                "{}",
                json!({"kind": "standing", "t": now(), "id": id, "standing": current})
            );
        }
    }
}
