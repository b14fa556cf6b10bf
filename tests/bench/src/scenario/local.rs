//! `local://`, where nothing is between two processes but files, beside a bare loop of inotify.

use std::path::Path;
use std::time::Duration;

use crate::child::{Program, quantile};
use crate::clock::now;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, program};

const TIMES: usize = 200;
const DEATHS: usize = 20;

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let raw = written(folder.path()).await?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let most = if matches!(language, "rust" | "c") {
            1.5
        } else {
            2.0
        };
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let url = format!("local://{}", folder.path().display());
        let told = registered(&url, language).await?;
        figures.push(
            Figure::new(12, language, "registration to callback, µs", told)
                .over(raw)
                .most(most),
        );
        figures.push(Figure::new(
            12,
            language,
            "SIGKILL to down, µs",
            died(&url, language).await?,
        ));
    }
    Ok(figures)
}

/// Files written under another name and renamed, as everybody does who wants them whole.
async fn written(folder: &Path) -> Result<f64, String> {
    let follower = Program::start(program(FLOOR)?.arg("inotify").arg(folder))?;
    for number in 0..TIMES {
        let hidden = folder.join(".next");
        let text = format!("{{\"t\":\"{}\"}}", now());
        std::fs::write(&hidden, text).map_err(|e| e.to_string())?;
        std::fs::rename(&hidden, folder.join(format!("i{number}"))).map_err(|e| e.to_string())?;
        pause().await;
    }
    Ok(quantile(&follower.finish()?.latencies, 0.5))
}

async fn registered(url: &str, language: &str) -> Result<f64, String> {
    let follower = Program::start(program(language)?.args(["follow", url, "1"]))?;
    let failed = |error: discover_core::Error| error.to_string();
    let client = discover_core::Client::connect(url).await.map_err(failed)?;
    let mut leases = Vec::new();
    for number in 0..TIMES {
        let registration = discover_core::Registration::new("bench-0", 1000 + number as i64)
            .and_then(|registration| registration.attributes([("t", now().to_string())]))
            .map_err(failed)?;
        leases.push(client.register(registration).await.map_err(failed)?);
        pause().await;
    }
    let median = quantile(&follower.finish()?.latencies, 0.5);
    drop(leases);
    client.close(Duration::from_secs(5)).await.map_err(failed)?;
    Ok(median)
}

async fn died(url: &str, language: &str) -> Result<f64, String> {
    let mut took = Vec::new();
    for _ in 0..DEATHS {
        let follower = Program::start(program(language)?.args(["follow", url, "1"]))?;
        let member = Program::start(program("rust")?.args(["register", url, "1"]))?;
        pause().await;
        let killed = now();
        drop(member);
        tokio::time::sleep(Duration::from_millis(200)).await; // tidy: sleep, until it is told
        if let Some(down) = follower.finish()?.down {
            took.push(down.saturating_sub(killed) as f64);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(quantile(&took, 0.5))
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await; // tidy: sleep, one change at a time
}
