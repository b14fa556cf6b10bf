//! `bench [SCENARIO…]`: measures and prints the table.

use std::process::ExitCode;

use discover_bench::figure::{summary, table};
use discover_bench::languages::compile;
use discover_bench::scenario::{Scenario, all};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match measure(&names).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(names: &[String]) -> Result<(), String> {
    let known = all();
    let chosen =
        |scenario: &&Scenario| names.is_empty() || names.iter().any(|n| n == scenario.name);
    if let Some(name) = names
        .iter()
        .find(|name| known.iter().all(|s| s.name != **name))
    {
        let listed: Vec<&str> = known.iter().map(|s| s.name).collect();
        return Err(format!(
            "unknown scenario {name}; known are {}",
            listed.join(", ")
        ));
    }
    compile()?;
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for scenario in known.iter().filter(chosen) {
        eprintln!("bench: {}", scenario.name);
        let measured = (scenario.run)().await;
        match measured {
            Ok(result) => {
                figures.extend(result.figures);
                let named = |why| format!("{}: {why}", scenario.name);
                failed.extend(result.failed.into_iter().map(named));
            }
            Err(why) => failed.push(format!("{}: {why}", scenario.name)),
        }
    }
    println!("{}\n{}", table(&figures), summary(&figures));
    failed
        .is_empty()
        .then_some(())
        .ok_or_else(|| format!("not measured: {}", failed.join("; ")))
}
