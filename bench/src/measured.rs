//! Measurements of programs in rounds: each program runs alone, other load affects all of them alike, and an outlier
//! does not change the median. The failure of a program does not affect the figures of the others.

use std::collections::HashMap;

use crate::child::quantile;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, peers};

/// The result of a scenario.
#[derive(Default)]
pub struct ScenarioResult {
    /// The figures.
    pub figures: Vec<Figure>,
    /// The programs that failed, with the reason.
    pub failed: Vec<String>,
}

/// The measurements of all programs.
pub struct Measured<T> {
    took: HashMap<&'static str, Vec<T>>,
    failed: Vec<String>,
}

impl<T> Measured<T> {
    /// Measures one program after the other, `rounds` times. Each round starts with another program, so that periodic
    /// work of the store does not always affect the same one.
    pub async fn measure(
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

    /// Returns the median of a program; NaN if it failed.
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

    /// Returns the median of the floor.
    pub fn floor(&self, figure: impl Fn(&T) -> f64) -> f64 {
        self.value(FLOOR, figure)
    }

    /// Returns the languages that were measured.
    pub fn languages(&self) -> impl Iterator<Item = &'static str> {
        LANGUAGES
            .into_iter()
            .filter(|name| self.took.contains_key(name))
    }

    /// Returns the other clients of a language that were measured.
    pub fn peers(&self, language: &str) -> impl Iterator<Item = &'static str> {
        peers(language).filter(|name| self.took.contains_key(name))
    }

    /// Returns the result with these figures.
    pub fn result(self, figures: Vec<Figure>) -> ScenarioResult {
        let failed = self.failed;
        ScenarioResult { figures, failed }
    }
}

impl ScenarioResult {
    /// Combines two results.
    pub fn merge(mut self, other: ScenarioResult) -> ScenarioResult {
        self.figures.extend(other.figures);
        self.failed.extend(other.failed);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_program_is_named_and_costs_no_other_its_figures() {
        let mut round = 0.0;
        let measured = Measured::measure(&["floor", "rust", "c"], 3, async |name| {
            round += 1.0;
            match name {
                "c" => Err("it ended".to_owned()),
                _ => Ok(round),
            }
        })
        .await;
        assert_eq!(measured.languages().collect::<Vec<_>>(), ["rust"]);
        // Sequential, with another program first in each round: 1 5 6, then 2 4 7.
        assert_eq!(measured.floor(|took| *took), 5.0);
        assert_eq!(measured.value("rust", |took| *took), 4.0);
        assert!(measured.value("c", |took| *took).is_nan());
        assert_eq!(measured.result(Vec::new()).failed, ["c: it ended"]);
    }
}
