//! One measured figure, beside its floor and its goal, and the table of them.

use std::fmt::Write;

/// See the module.
pub struct Figure {
    /// Which goal it is of.
    pub goal: u8,
    /// What was measured, with its unit.
    pub what: String,
    /// In which language.
    pub language: &'static str,
    /// As measured.
    pub value: f64,
    /// What the floor took in the same run; none where the figure stands alone.
    pub floor: Option<f64>,
    /// The most that the ratio to the floor, or else the value, may be; none where there is no goal.
    pub most: Option<f64>,
}

impl Figure {
    /// One without floor and goal.
    pub fn new(goal: u8, language: &'static str, what: impl Into<String>, value: f64) -> Figure {
        let what = what.into();
        Figure {
            goal,
            what,
            language,
            value,
            floor: None,
            most: None,
        }
    }

    /// What the floor took.
    pub fn over(mut self, floor: f64) -> Figure {
        self.floor = Some(floor);
        self
    }

    /// The goal: the most that the ratio may be, or the value where there is no floor.
    pub fn most(mut self, most: f64) -> Figure {
        self.most = Some(most);
        self
    }

    /// What the goal is about.
    fn judged(&self) -> f64 {
        self.floor.map_or(self.value, |floor| self.value / floor)
    }

    /// Whether the goal is met; none where there is none.
    pub fn met(&self) -> Option<bool> {
        self.most.map(|most| self.judged() <= most)
    }
}

/// All figures, in Markdown.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from(
        "| goal | what | language | figure | floor | ratio | at most | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let optional = |value: Option<f64>| value.map_or(String::new(), short);
        let ratio = figure.floor.map(|_| figure.judged());
        let met = match figure.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {met} |",
            figure.goal,
            figure.what,
            figure.language,
            short(figure.value),
            optional(figure.floor),
            optional(ratio),
            optional(figure.most),
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

    #[test]
    fn a_goal_is_about_the_ratio_where_there_is_a_floor() {
        let alone = Figure::new(1, "rust", "µs", 20.0).most(30.0);
        assert_eq!(alone.met(), Some(true));
        let beside = Figure::new(1, "rust", "µs", 20.0).over(10.0).most(1.5);
        assert_eq!(beside.met(), Some(false));
        assert_eq!(Figure::new(1, "rust", "µs", 20.0).met(), None);
        let text = table(&[beside]);
        assert!(
            text.ends_with("| 1 | µs | rust | 20.0 | 10.0 | 2.00 | 1.50 | MISSED |\n"),
            "{text}"
        );
    }
}
