//! Prints the events of the service `web` until Enter is pressed: `watch`.

use std::time::Duration;

use discover_core::{Client, Event};
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watch: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    let client = Client::builder().connect().await?;

    // Watch the service: first the full state, then `current`, then every change.
    let mut events = client.services("web")?.subscribe();
    let printer = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            print_event(&event);
        }
    });

    // Do other work here; the task receives the events.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;

    // After closing, no event follows.
    client.close(Duration::from_secs(5)).await?;
    Ok(printer.await?)
}

fn print_event(event: &Event) {
    match (event.instance(), event.error()) {
        (Some(instance), _) => println!("{} {}", event.kind(), instance.address()),
        (None, Some(error)) => println!("{} {error:#}", event.kind()),
        (None, None) if event.kind() == "leader" => println!("leader none"),
        (None, None) => println!("{}", event.kind()),
    }
}
