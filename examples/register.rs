//! Registers a service until Enter is pressed: `register PORT`.

use std::time::Duration;

use discover_core::{Client, Registration};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("register: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .ok_or("usage: register PORT")?
        .parse()?;

    // Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    let client = Client::builder().connect().await?;

    // Register an instance. When `register` returns, other clients see it.
    let registration = Registration::new("web", port)?
        .host("127.0.0.1")?
        .attributes([("zone", "eu"), ("version", "1")])?;
    let lease = client.register(registration).await?;
    println!("registered web at {}", lease.registration().address());

    // Do the service's work here; the library keeps the registration alive.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;

    // Unregister: other clients see the instance go offline at once. Dropping the lease has the same effect.
    lease.unregister().await?;
    println!("unregistered");
    client.close(Duration::from_secs(5)).await?;
    Ok(())
}
