//! The table of results, for the terminal and the documents.

use std::fmt::Write;

use crate::run::Outcome;
use discover_testkit::clock::seconds;

/// Returns a table with one line per scenario and language.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<22}{:<6}{:<9}{:<9}{:>9}{:>8}{:>13}{:>9}\n",
        "scenario", "row", "members", "language", "compared", "violations", "staleness", "relists"
    );
    for outcome in outcomes {
        let head = format!(
            "{:<22}{:<6}{:<9}",
            outcome.scenario, outcome.row, outcome.members
        );
        if let Some(why) = &outcome.void {
            let _ = writeln!(
                text,
                "{head}void: {}",
                why.lines().next().unwrap_or_default()
            );
        }
        for row in &outcome.rows {
            let relists = row
                .relists
                .map_or("-".to_owned(), |count| count.to_string());
            let _ = writeln!(
                text,
                "{head}{:<9}{:>9}{:>8}{:>11.2} s{:>9}",
                row.language,
                row.compared,
                row.violations.len(),
                seconds(row.longest),
                relists
            );
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let _ = writeln!(
        text,
        "{} scenarios, {} passed, {failed} failed",
        outcomes.len(),
        outcomes.len() - failed
    );
    text
}
