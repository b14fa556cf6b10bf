//! The cost of one change in a set of any size, without a network: from the writer's call to the last subscriber.

use std::time::Duration;

use discover_core::{Client, Lease, Registration, ServiceSet};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::child::Program;
use crate::figure::Figure;
use crate::languages::program;
use crate::measured::ScenarioResult;
use crate::protocol::instance_host;
use discover_testkit::clock::now;

const CHANGES: u64 = 200;

/// Measures Rust in this process, the other languages in programs of their own.
pub async fn run() -> Result<ScenarioResult, String> {
    let mut figures = measure().await.map_err(|error| error.to_string())?;
    let mut failed = Vec::new();
    for language in ["c", "python", "node"] {
        match in_a_program(language) {
            Ok(more) => figures.extend(more),
            Err(why) => failed.push(format!("{language}: {why}")),
        }
    }
    Ok(ScenarioResult { figures, failed })
}

/// Python and Node may receive several changes at once, so they have no goals.
fn in_a_program(language: &'static str) -> Result<[Figure; 3], String> {
    let took = |instances: u64, subscribers: u64| {
        let (url, counts) = ("memory://scale?ttl=10m", [instances, subscribers]);
        let counts = counts.map(|count| count.to_string());
        let report = Program::ask(program(language)?.args(["scale", url]).args(counts))?;
        let took = report["took"].as_f64();
        took.ok_or_else(|| format!("unexpected report {report}"))
    };
    let figure = |instances: u64, subscribers: u64, took: f64| {
        Figure::new(11, language, what(instances, subscribers), took)
    };
    let goal = |figure: Figure, most: f64| match language {
        "c" => figure.most(most),
        _ => figure,
    };
    let least = took(100, 1)?;
    let many = figure(10_000, 100, took(10_000, 100)?);
    let large = figure(100_000, 1, took(100_000, 1)?).over(least);
    Ok([figure(100, 1, least), goal(many, 1000.0), goal(large, 3.0)])
}

fn what(instances: u64, subscribers: u64) -> String {
    format!("a change among {instances}, {subscribers} subscribers, µs")
}

async fn measure() -> discover_core::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut least = None;
    for instances in [100, 1_000, 10_000, 100_000] {
        let place = LoadedSet::new(instances).await?;
        for subscribers in [1, 100] {
            let took = place.change(subscribers).await?;
            let what = what(instances, subscribers as u64);
            let figure = Figure::new(11, "rust", what, took);
            figures.push(match (instances, subscribers, least) {
                (100_000, 1, Some(least)) => figure.over(least).most(3.0),
                (10_000, 100, _) => figure.most(1000.0),
                _ => figure,
            });
            least = least.or(Some(took));
        }
        place.client.close(Duration::from_secs(60)).await?;
    }
    Ok(figures)
}

struct LoadedSet {
    client: Client,
    leases: Vec<Lease>,
    set: ServiceSet,
}

impl LoadedSet {
    async fn new(instances: u64) -> discover_core::Result<LoadedSet> {
        let client = Client::connect(&format!("memory://scale-{instances}?ttl=10m")).await?;
        let mut leases = Vec::new();
        for number in 0..instances {
            let registration = Registration::new("bench", 1000)?.host(&instance_host(number))?;
            leases.push(client.register(registration).await?);
        }
        let set = client.services("bench")?;
        set.wait(instances as usize, Duration::from_secs(60))
            .await?;
        Ok(LoadedSet {
            client,
            leases,
            set,
        })
    }

    /// Returns the median of several changes.
    async fn change(&self, subscribers: usize) -> discover_core::Result<f64> {
        let mut streams: Vec<_> = (0..subscribers).map(|_| self.set.subscribe()).collect();
        // The initial state and the `current` event.
        let already = self.set.online().len() + 2;
        for each in &mut streams {
            each.by_ref().take(already).for_each(async |_| {}).await;
        }
        let mut took = Vec::new();
        for turn in 0..CHANGES {
            let lease = &self.leases[(turn as usize * 7919) % self.leases.len()];
            let began = now();
            lease
                .update([("turn", format!("{subscribers}-{turn}"))])
                .await?;
            join_all(streams.iter_mut().map(|each| each.next())).await;
            took.push((now() - began) as f64);
        }
        took.sort_by(f64::total_cmp);
        Ok(took[took.len() / 2])
    }
}
