//! The command `doctor`, which checks the settings, the clock, the store and a registration.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use discover_core::{Client, Registration, Result};
use tokio::time::Instant;

use crate::cli::{RegistryArgs, env, output};

/// Limit on the time of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// The beginning of 2024, since the Unix epoch. A clock with an earlier time was never set.
const MIN_CLOCK: Duration = Duration::from_secs(1_704_067_200);

#[derive(Default)]
struct Report {
    has_failed: bool,
}

impl Report {
    fn print(&mut self, check: &str, result: std::result::Result<String, String>) {
        let (mark, text) = match result {
            Ok(text) => ("ok  ", text),
            Err(text) => {
                self.has_failed = true;
                ("FAIL", text)
            }
        };
        output::print(&format!("{mark} {check}: {text}\n"));
    }
}

/// Runs all checks and prints their results. The exit code reports whether one failed. With `quick`, nothing is
/// registered.
pub async fn doctor(registry: &RegistryArgs, quick: bool) -> Result<ExitCode> {
    env::env(registry)?;
    let mut report = Report::default();
    report.print("clock", clock());
    let begin = Instant::now();
    match registry.client().await {
        Ok(client) => {
            let took = begin.elapsed();
            report.print(
                "store",
                Ok(format!("{} responded in {took:.1?}", client.uri())),
            );
            report.print("catalog", catalog(&client).await);
            if !quick {
                report.print("lease", round_trip(&client).await);
            }
            report.print(
                "close",
                described(
                    client.close(CHECK_TIMEOUT).await,
                    "all registrations were released",
                ),
            );
        }
        Err(error) => report.print("store", Err(error.report())),
    }
    Ok(match report.has_failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn clock() -> std::result::Result<String, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if now < MIN_CLOCK {
        return Err(
            "the clock was never set, so certificates are not valid yet; set the time of this host"
                .to_owned(),
        );
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

/// Registers an instance, waits until it is visible, updates and unregisters it.
async fn round_trip(client: &Client) -> std::result::Result<String, String> {
    let name = format!("discoverd-doctor-{:08x}", fastrand::u32(..));
    let steps = async {
        let begin = Instant::now();
        let registration = Registration::at(&name, "127.0.0.1:1")?;
        let lease = client.register(registration).await?;
        let set = client.services(&name)?;
        set.wait(1, CHECK_TIMEOUT).await?;
        let visible_after = begin.elapsed();
        lease.heartbeat().await?;
        lease.update([("doctor", "was here")]).await?;
        lease.unregister().await?;
        Ok(format!(
            "registered and visible after {visible_after:.1?}, updated, unregistered"
        ))
    };
    let result: Result<String> = steps.await;
    result.map_err(|error| error.report())
}

fn described(result: Result<()>, success: &str) -> std::result::Result<String, String> {
    result.map(|()| success.to_owned()).map_err(|e| e.report())
}
