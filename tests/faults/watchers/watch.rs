//! Watches and registers while the lab breaks things: `faults-watch URL HOST PORT COUNT PACE_MS
//! SERVICE...` registers COUNT instances of the service `members` from HOST:PORT on, follows each
//! SERVICE, and prints all that it sees as lines of JSON until its input ends. See watchers/README.md.

use std::io::Read;
use std::time::Duration;

use discover_core::{Client, Cursor, Lease, Registration, Snapshot};
use serde_json::{Map, Value, json};

use discover_faults::clock::now;

type Outcome = Result<(), Box<dyn std::error::Error>>;

struct Followed {
    service: String,
    cursor: Cursor,
    version: u64,
}

struct Held {
    lease: Lease,
    standing: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        println!("{}", json!({"kind": "error", "text": error.to_string()}));
    }
}

async fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, host, port, count, pace, services @ ..] = arguments.as_slice() else {
        return Err("usage: faults-watch URL HOST PORT COUNT PACE_MS SERVICE...".into());
    };
    let client = Client::connect(url).await?;
    let mut held = Vec::new();
    for number in 0..count.parse::<i64>()? {
        let registration = Registration::new("members", port.parse::<i64>()? + number)?;
        let registration = registration
            .host(host)?
            .attributes([("language", "rust")])?;
        let lease = client.register(registration).await?;
        held.push(Held {
            lease,
            standing: "",
        });
    }
    let mut followed = Vec::new();
    for service in services {
        let cursor = client.services(service)?.cursor();
        followed.push(Followed {
            service: service.clone(),
            cursor,
            version: u64::MAX,
        });
    }
    tell_standing(&mut held);
    println!("{}", json!({"kind": "ready", "t": now()}));

    let pace = Duration::from_millis(pace.parse()?);
    let (leaves, mut leaving) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(leaves);
    });
    while tokio::time::timeout(pace, &mut leaving).await.is_err() {
        followed.iter_mut().for_each(tell);
        tell_standing(&mut held);
    }
    followed.iter_mut().for_each(tell);
    let counted: Map<_, _> = client
        .metrics()
        .fields()
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    println!("{}", json!({"kind": "metrics", "values": counted}));
    if let Err(error) = client.close(Duration::from_secs(8)).await {
        println!("{}", json!({"kind": "left", "text": error.to_string()}));
    }
    Ok(())
}

/// Prints the news of a set, and the snapshot to which they lead if that is another.
fn tell(followed: &mut Followed) {
    for event in followed.cursor.drain() {
        if let ("up" | "update" | "down", Some(instance)) = (event.kind(), event.instance()) {
            let (id, created) = (instance.id(), instance.created());
            let news = json!({"kind": "event", "t": now(), "service": followed.service,
                              "event": event.kind(), "id": id, "created": created});
            println!("{news}");
        }
    }
    let snapshot = followed.cursor.seen().clone();
    if snapshot.version() != followed.version {
        followed.version = snapshot.version();
        println!(
            "{}",
            json!({"kind": "snapshot", "t": now(), "service": followed.service,
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

fn tell_standing(held: &mut [Held]) {
    for Held { lease, standing } in held {
        let now_is = lease.standing().name();
        if *standing != now_is {
            *standing = now_is;
            let id = lease.registration().instance_id();
            println!(
                "{}",
                json!({"kind": "standing", "t": now(), "id": id, "standing": now_is})
            );
        }
    }
}
