//! What programs took, each measured by itself, in rounds: whatever else the machine does meets all of them alike,
//! and what one meets alone is not its median. Who fails costs nobody else a figure.

use std::collections::HashMap;

use crate::child::quantile;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers};

/// What came of a scenario.
#[derive(Default)]
pub struct Told {
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Who was not, and why.
    pub failed: Vec<String>,
}

/// See the module.
pub struct Measured<T> {
    took: HashMap<&'static str, Vec<T>>,
    failed: Vec<String>,
}

impl<T> Measured<T> {
    /// Measures one program after the other, and all of them so many times; each time another one is first, for
    /// what the store does now and then must not meet the same one always.
    pub async fn of(
        programs: &[&'static str],
        rounds: usize,
        mut measure: impl AsyncFnMut(&'static str) -> Result<T, String>,
    ) -> Measured<T> {
        let mut took: HashMap<_, Vec<T>> = programs.iter().map(|name| (*name, vec![])).collect();
        let mut failed = Vec::new();
        for round in 0..rounds {
            let (later, first) = programs.split_at(round % programs.len().max(1));
            for name in first.iter().chain(later) {
                let Some(rounds) = took.get_mut(name) else {
                    continue;
                };
                match measure(name).await {
                    Ok(cost) => rounds.push(cost),
                    Err(why) => {
                        took.remove(name);
                        failed.push(format!("{name}: {why}"));
                    }
                }
            }
        }
        Measured { took, failed }
    }

    /// The median of what a program took; no number where it was not measured.
    pub fn value(&self, name: &str, figure: impl Fn(&T) -> f64) -> f64 {
        let mut rounds: Vec<f64> = self
            .took
            .get(name)
            .into_iter()
            .flatten()
            .map(figure)
            .collect();
        rounds.sort_by(f64::total_cmp);
        quantile(&rounds, 0.5)
    }

    /// That of the floor.
    pub fn floor(&self, figure: impl Fn(&T) -> f64) -> f64 {
        self.value(FLOOR, figure)
    }

    /// The languages that were measured.
    pub fn languages(&self) -> impl Iterator<Item = &'static str> {
        LANGUAGES
            .into_iter()
            .filter(|name| self.took.contains_key(name))
    }

    /// The peers of a language that were measured.
    pub fn peers(&self, language: &str) -> impl Iterator<Item = &'static str> {
        peers(language).filter(|name| self.took.contains_key(name))
    }

    /// All figures of it.
    pub fn told(self, figures: Vec<Figure>) -> Told {
        let failed = self.failed;
        Told { figures, failed }
    }
}

impl Told {
    /// Both together.
    pub fn and(mut self, other: Told) -> Told {
        self.figures.extend(other.figures);
        self.failed.extend(other.failed);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_fails_is_named_and_costs_nobody_else_a_figure() {
        let mut round = 0.0;
        let measured = Measured::of(&["floor", "rust", "c"], 3, async |name| {
            round += 1.0;
            match name {
                "c" => Err("it ended".to_owned()),
                _ => Ok(round),
            }
        })
        .await;
        assert_eq!(measured.languages().collect::<Vec<_>>(), ["rust"]);
        // One after the other, but each time from another one on: 1 5 6, and 2 4 7.
        assert_eq!(measured.floor(|took| *took), 5.0);
        assert_eq!(measured.value("rust", |took| *took), 4.0);
        assert!(measured.value("c", |took| *took).is_nan());
        assert_eq!(measured.told(Vec::new()).failed, ["c: it ended"]);
    }
}
