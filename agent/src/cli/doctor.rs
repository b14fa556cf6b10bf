//! `doctor`: whether all is well, one look after the other, and what to do where it is not.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use discover_core::{Client, Registration, Result};
use tokio::time::Instant;

use crate::cli::{At, env, output};

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A clock before this was never set: 2024.
const CLOCK: Duration = Duration::from_secs(1_704_067_200);

struct Looks {
    failed: bool,
}

impl Looks {
    fn say(&mut self, what: &str, found: std::result::Result<String, String>) {
        let (mark, text) = match found {
            Ok(text) => ("ok  ", text),
            Err(text) => {
                self.failed = true;
                ("FAIL", text)
            }
        };
        output::print(&format!("{mark} {what}: {text}\n"));
    }
}

/// Looks at all that is needed; fails if something is not well. A quick one writes nothing.
pub async fn doctor(at: &At, quick: bool) -> Result<ExitCode> {
    env::env(at)?;
    let mut looks = Looks { failed: false };
    looks.say("clock", clock());
    let begin = Instant::now();
    match at.client().await {
        Ok(client) => {
            let took = begin.elapsed();
            looks.say(
                "store",
                Ok(format!("{} answered in {took:.1?}", client.uri())),
            );
            looks.say("catalog", catalog(&client).await);
            if !quick {
                looks.say("lease", round_trip(&client).await);
            }
            looks.say(
                "close",
                told(client.close(PATIENCE).await, "all was released"),
            );
        }
        Err(error) => looks.say("store", Err(error.report())),
    }
    Ok(match looks.failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn clock() -> std::result::Result<String, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if now < CLOCK {
        return Err("it was never set; certificates will not be valid".to_owned());
    }
    Ok(format!("{} seconds since 1970", now.as_secs()))
}

async fn catalog(client: &Client) -> std::result::Result<String, String> {
    match client.catalog().await {
        Ok(names) => Ok(format!("{} services", names.len())),
        Err(error) if error.kind() == discover_core::ErrorKind::Unsupported => Ok(error.report()),
        Err(error) => Err(error.report()),
    }
}

/// Registers, looks whether it is seen, changes it, and takes it away.
async fn round_trip(client: &Client) -> std::result::Result<String, String> {
    let name = format!("discoverd-doctor-{:08x}", fastrand::u32(..));
    let done = async {
        let begin = Instant::now();
        let registration = Registration::at(&name, "127.0.0.1:1")?;
        let lease = client.register(registration).await?;
        let set = client.services(&name)?;
        set.wait(1, PATIENCE).await?;
        let seen = begin.elapsed();
        lease.heartbeat().await?;
        lease.update([("doctor", "was here")]).await?;
        lease.unregister().await?;
        Ok(format!(
            "registered and seen in {seen:.1?}, changed, and taken away"
        ))
    };
    let done: Result<String> = done.await;
    done.map_err(|error| error.report())
}

fn told(done: Result<()>, well: &str) -> std::result::Result<String, String> {
    done.map(|()| well.to_owned()).map_err(|e| e.report())
}
