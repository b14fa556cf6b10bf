//! What one change costs in a set of any size, without a network: from the writer's call to the last
//! listener.

use std::time::Duration;

use discover_core::{Client, Lease, Registration, ServiceSet};
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::clock::now;
use crate::figure::Figure;
use crate::measured::Told;
use crate::told::instance;

const CHANGES: u64 = 200;

/// See the module.
pub async fn run() -> Result<Told, String> {
    let figures = measure().await.map_err(|error| error.to_string())?;
    Ok(Told {
        figures,
        ..Told::default()
    })
}

async fn measure() -> discover_core::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut least = None;
    for instances in [100, 1_000, 10_000, 100_000] {
        let place = Place::new(instances).await?;
        for listeners in [1, 100] {
            let took = place.change(listeners).await?;
            let what = format!("a change among {instances}, {listeners} listeners, µs");
            let figure = Figure::new(11, "rust", what, took);
            figures.push(match (instances, listeners, least) {
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

struct Place {
    client: Client,
    leases: Vec<Lease>,
    set: ServiceSet,
}

impl Place {
    async fn new(instances: u64) -> discover_core::Result<Place> {
        let client = Client::connect(&format!("memory://scale-{instances}?ttl=10m")).await?;
        let mut leases = Vec::new();
        for number in 0..instances {
            let registration = Registration::new("bench", 1000)?.host(&instance(number))?;
            leases.push(client.register(registration).await?);
        }
        let set = client.services("bench")?;
        set.wait(instances as usize, Duration::from_secs(60))
            .await?;
        Ok(Place {
            client,
            leases,
            set,
        })
    }

    /// The median of some changes.
    async fn change(&self, listeners: usize) -> discover_core::Result<f64> {
        let mut heard: Vec<_> = (0..listeners).map(|_| self.set.subscribe()).collect();
        // All that is there, and that it is all.
        let already = self.set.online().len() + 2;
        for each in &mut heard {
            each.by_ref().take(already).for_each(async |_| {}).await;
        }
        let mut took = Vec::new();
        for turn in 0..CHANGES {
            let lease = &self.leases[(turn as usize * 7919) % self.leases.len()];
            let began = now();
            lease
                .update([("turn", format!("{listeners}-{turn}"))])
                .await?;
            join_all(heard.iter_mut().map(|each| each.next())).await;
            took.push((now() - began) as f64);
        }
        took.sort_by(f64::total_cmp);
        Ok(took[took.len() / 2])
    }
}
