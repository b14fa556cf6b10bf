//! One measured figure beside its floor and its goal, and the table of all figures.

use std::fmt::Write;

/// A figure.
pub struct Figure {
    /// The goal it belongs to.
    pub goal: u8,
    /// What was measured, with its unit.
    pub what: String,
    /// The language.
    pub language: &'static str,
    /// The measured value.
    pub value: f64,
    /// The value of the floor, or of the other client named in `what`, in the same run; none without a comparison.
    pub floor: Option<f64>,
    /// The goal, if there is one.
    pub bound: Option<Bound>,
    /// The goal concerns the value, not the ratio to the floor.
    pub absolute: bool,
}

/// The bound of the ratio to the floor, or of the value without a floor.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Maximum.
    Most(f64),
    /// Minimum.
    Least(f64),
}

impl Figure {
    /// Creates a figure without floor and goal.
    pub fn new(goal: u8, language: &'static str, what: impl Into<String>, value: f64) -> Figure {
        let what = what.into();
        Figure {
            goal,
            what,
            language,
            value,
            floor: None,
            bound: None,
            absolute: false,
        }
    }

    /// Sets the floor; the goal concerns the ratio to it.
    pub fn over(mut self, floor: f64) -> Figure {
        self.floor = Some(floor);
        self
    }

    /// Sets the floor; the goal concerns the value.
    pub fn beside(mut self, floor: f64) -> Figure {
        self.absolute = true;
        self.over(floor)
    }

    /// Sets the maximum.
    pub fn most(mut self, most: f64) -> Figure {
        self.bound = Some(Bound::Most(most));
        self
    }

    /// Sets the minimum.
    pub fn least(mut self, least: f64) -> Figure {
        self.bound = Some(Bound::Least(least));
        self
    }

    /// Compares with another client in a line of its own.
    pub fn against(mut self, peer: &str, theirs: f64) -> Figure {
        self.what = format!("{}, against {peer}", self.what);
        self.over(theirs)
    }

    /// Returns the ratio to the floor; none if the floor failed or was not positive because of noise.
    fn ratio(&self) -> Option<f64> {
        let floor = self.floor.filter(|floor| *floor > 0.0)?;
        Some(self.value / floor)
    }

    /// Returns whether the goal is met; none without a goal or a value.
    pub fn met(&self) -> Option<bool> {
        let judged = match self.floor {
            Some(_) if !self.absolute => self.ratio()?,
            _ => Some(self.value).filter(|value| !value.is_nan())?,
        };
        Some(match self.bound? {
            Bound::Most(most) => judged <= most,
            Bound::Least(least) => judged >= least,
        })
    }
}

/// Returns all figures as a Markdown table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from(
        "| goal | what | language | figure | floor | ratio | bound | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let optional = |value: Option<f64>| {
            value
                .filter(|value| !value.is_nan())
                .map_or(String::new(), short)
        };
        let bound = match figure.bound {
            Some(Bound::Most(most)) => format!("≤ {}", short(most)),
            Some(Bound::Least(least)) => format!("≥ {}", short(least)),
            None => String::new(),
        };
        let met = match figure.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {bound} | {met} |",
            figure.goal,
            figure.what,
            figure.language,
            optional(Some(figure.value)),
            optional(figure.floor),
            optional(figure.ratio()),
        );
    }
    text
}

/// Returns the number of goals met, and the list of those missed.
pub fn summary(figures: &[Figure]) -> String {
    let judged: Vec<(&Figure, bool)> = figures
        .iter()
        .filter_map(|figure| Some((figure, figure.met()?)))
        .collect();
    let met = judged.iter().filter(|(_, is_met)| *is_met).count();
    let missed = judged.len() - met;
    let mut text = format!("{} goals: {met} met, {missed} MISSED\n", judged.len());
    for (figure, _) in judged.iter().filter(|(_, is_met)| !is_met) {
        let _ = writeln!(
            text,
            "  {:>2} {:<6} {}",
            figure.goal, figure.language, figure.what
        );
    }
    text
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twenty() -> Figure {
        Figure::new(1, "rust", "µs", 20.0)
    }

    #[test]
    fn a_goal_is_about_the_ratio_where_there_is_a_floor() {
        assert_eq!(twenty().most(30.0).met(), Some(true));
        assert_eq!(twenty().over(10.0).most(1.5).met(), Some(false));
        assert_eq!(twenty().beside(10.0).most(30.0).met(), Some(true));
        assert_eq!(twenty().over(10.0).least(1.5).met(), Some(true));
        assert_eq!(twenty().least(30.0).met(), Some(false));
        assert_eq!(twenty().met(), None);
        assert_eq!(twenty().over(-9.0).most(1.5).met(), None);
    }

    #[test]
    fn a_missing_value_is_not_compared() {
        assert_eq!(twenty().over(f64::NAN).most(1.5).met(), None);
        assert_eq!(twenty().beside(f64::NAN).most(30.0).met(), Some(true));
        let nothing = Figure::new(1, "rust", "µs", f64::NAN).most(30.0);
        assert_eq!(nothing.met(), None);
        let text = table(&[nothing.over(f64::NAN)]);
        assert_eq!(
            text.lines().last(),
            Some("| 1 | µs | rust |  |  |  | ≤ 30.0 |  |")
        );
    }

    #[test]
    fn the_goals_are_counted_and_the_missed_are_named() {
        let text = summary(&[twenty(), twenty().most(30.0), twenty().most(10.0)]);
        assert_eq!(text, "2 goals: 1 met, 1 MISSED\n   1 rust   µs\n");
    }

    #[test]
    fn a_line_contains_all_values() {
        let text = table(&[twenty().over(10.0).most(1.5), twenty().least(20.0)]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| 1 | µs | rust | 20.0 | 10.0 | 2.00 | ≤ 1.50 | MISSED |",
                "| 1 | µs | rust | 20.0 |  |  | ≥ 20.0 | met |",
            ]
        );
    }
}
