//! Takes part in a leader election until Enter is pressed: `leader PORT`.

use std::time::Duration;

use discover_core::{Client, Event, Registration};
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leader: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .ok_or("usage: leader PORT")?
        .parse()?;

    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    let client = Client::builder().connect().await?;

    // Every registered instance is a candidate; the oldest one leads.
    let lease = client
        .register(Registration::new("worker", port)?.host("127.0.0.1")?)
        .await?;
    let own = lease.registration().address();

    // The subscription emits the current leader first and then each new one.
    let mut events = client.services("worker")?.subscribe();
    let printer = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Leader(Some(leader)) if leader.address() == own => println!("leading"),
                Event::Leader(Some(leader)) => println!("following {}", leader.address()),
                _ => {}
            }
        }
    });

    // Do the leader's work here, or wait to become the leader.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;

    // Closing unregisters the instance, and the next oldest one leads.
    client.close(Duration::from_secs(5)).await?;
    Ok(printer.await?)
}
