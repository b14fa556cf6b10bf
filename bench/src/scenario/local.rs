//! `local://`, where processes communicate through files, beside a bare inotify loop.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::child::{Program, quantile};
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, ScenarioResult};
use discover_testkit::clock::now;

const TIMES: usize = 200;
const DEATHS: usize = 20;

struct Cost {
    told: f64,
    call: f64,
    down: f64,
}

/// Measures registration and death.
pub async fn run() -> Result<ScenarioResult, String> {
    let costs = Measured::measure(&with_peers(&[]), 1, async |name| measure(name).await).await;
    let figures = |language: &'static str| {
        let native = matches!(language, "rust" | "c");
        let own = |what: &str, get: fn(&Cost) -> f64| {
            Figure::new(12, language, what, costs.value(language, get))
        };
        let ratio = |what: &str, get: fn(&Cost) -> f64| {
            let figure = own(what, get).over(costs.floor(get));
            figure.most(if native { 1.5 } else { 2.0 })
        };
        [
            ratio("registration to callback, µs", |cost| cost.told),
            own("of that, the register call, µs", |cost| cost.call),
            ratio("SIGKILL to down, µs", |cost| cost.down),
        ]
    };
    let figures = costs.languages().flat_map(figures).collect();
    Ok(costs.result(figures))
}

async fn measure(name: &str) -> Result<Cost, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (told, call) = match name {
        FLOOR => (alone(written(folder.path()))?, f64::NAN),
        _ => alone(registered(folder.path(), name))?,
    };
    let down = died(folder.path(), name).await?;
    Ok(Cost { told, call, down })
}

/// Files written under another name, renamed and kept open, as the library does.
async fn written(folder: &Path) -> Result<f64, String> {
    let follower = Program::start(&mut follow(folder, FLOOR)?)?;
    let mut open = Vec::new();
    let mut write = |number: usize| -> std::io::Result<()> {
        let (hidden, name) = (folder.join(".next"), folder.join(format!("i{number}")));
        let text = format!("{{\"t\":\"{}\"}}", now());
        let mut file = File::create(&hidden)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&hidden, name)?;
        open.push(file);
        Ok(())
    };
    for number in 0..TIMES {
        write(number).map_err(|e| e.to_string())?;
        pause().await;
    }
    Ok(quantile(&follower.finish()?.latencies(), 0.5))
}

/// Runs a writer on this thread only, so that no other thread of it competes with the reader.
fn alone<T>(writer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let run = |runtime: Runtime| runtime.block_on(writer);
    tokio::task::block_in_place(|| runtime.map_err(|e| e.to_string()).and_then(run))
}

/// Returns a program that watches a directory.
fn follow(folder: &Path, language: &str) -> Result<Command, String> {
    let mut command = program(language)?;
    if language == FLOOR {
        command.arg("inotify").arg(folder);
    } else {
        command.args(["follow", &url(folder), "1"]);
    }
    Ok(command)
}

fn url(folder: &Path) -> String {
    format!("local://{}", folder.display())
}

/// Returns the time from building a registration to the callback in another process, and to the return of the call.
async fn registered(folder: &Path, language: &str) -> Result<(f64, f64), String> {
    let url = &url(folder);
    let follower = Program::start(&mut follow(folder, language)?)?;
    let failed = |error: discover_core::Error| error.to_string();
    let client = discover_core::Client::connect(url).await.map_err(failed)?;
    let (mut leases, mut calls) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        let began = now();
        let registration = discover_core::Registration::new("bench-0", 1000 + number as i64)
            .and_then(|registration| registration.attributes([("t", began.to_string())]))
            .map_err(failed)?;
        leases.push(client.register(registration).await.map_err(failed)?);
        calls.push((now() - began) as f64);
        pause().await;
    }
    calls.sort_by(f64::total_cmp);
    let median = quantile(&follower.finish()?.latencies(), 0.5);
    drop(leases);
    client.close(Duration::from_secs(5)).await.map_err(failed)?;
    Ok((median, quantile(&calls, 0.5)))
}

/// Kills the same kind of process for the floor and for the library.
async fn died(folder: &Path, language: &str) -> Result<f64, String> {
    let mut took = Vec::new();
    for _ in 0..DEATHS {
        let follower = Program::start(&mut follow(folder, language)?)?;
        let member = Program::start(program("rust")?.args(["register", &url(folder), "1"]))?;
        pause().await;
        let killed = now();
        drop(member);
        tokio::time::sleep(Duration::from_millis(200)).await; // tidy: sleep, until it is notified
        if let Some(down) = follower.finish()?.down() {
            took.push(down.saturating_sub(killed) as f64);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(quantile(&took, 0.5))
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await; // tidy: sleep, one change at a time
}
