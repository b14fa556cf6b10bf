//! The cost of reading: nanoseconds of one call, alone and beside a writer.

use crate::child::Program;
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, ScenarioResult};

/// Measures all languages.
pub async fn run() -> Result<ScenarioResult, String> {
    let ask = async |name| match name {
        FLOOR => Program::ask(program(name)?.arg("read")),
        _ => Program::ask(program(name)?.args(["read", "memory://bench"])),
    };
    let costs = Measured::measure(&with_peers(&[]), 1, ask).await;
    let value =
        |name: &str, key: &str| costs.value(name, |cost| cost[key].as_f64().unwrap_or(f64::NAN));
    let mut figures = Vec::new();
    for language in costs.languages() {
        for goal in GOALS.iter().filter(|goal| goal.language == language) {
            let floor = value(if goal.is_own { language } else { FLOOR }, goal.floor);
            let what = format!("{}, ns; floor: {}", goal.name, goal.beside);
            let figure = Figure::new(9, language, what, value(language, goal.name));
            figures.push(figure.over(floor).most(goal.most));
        }
        for (_, name, most) in NANOSECONDS.iter().filter(|(of, ..)| *of == language) {
            let figure = Figure::new(9, language, format!("{name}, ns"), value(language, name));
            figures.push(figure.most(*most));
        }
        for name in ["online", "pick"] {
            let beside = value(language, &format!("{name}_written"));
            if !beside.is_nan() {
                let what = format!("{name} beside a writer, ns");
                let figure = Figure::new(9, language, what, beside);
                figures.push(figure.over(value(language, name)).most(1.2));
            }
        }
    }
    Ok(costs.result(figures))
}

/// Maximum cost of a read, on a machine like the one the goals were set on.
const NANOSECONDS: &[(&str, &str, f64)] = &[
    ("rust", "online", 10.0),
    ("rust", "pick", 10.0),
    ("rust", "named", 45.0),
    ("c", "online", 15.0),
    ("c", "pick", 15.0),
    ("python", "online", 50.0),
    ("python", "pick", 60.0),
    ("node", "online", 15.0),
    ("node", "pick", 25.0),
];

/// Maximum cost of a read, as a ratio to another operation of the same run.
struct Goal {
    language: &'static str,
    name: &'static str,
    /// The figure of the floor, or of the language itself.
    floor: &'static str,
    is_own: bool,
    /// What the floor is, in words.
    beside: &'static str,
    most: f64,
}

/// A C program owns what it holds, so its floor is the reference-counted pointer.
const GOALS: &[Goal] = &[
    Goal {
        language: "rust",
        name: "online",
        floor: "online",
        is_own: false,
        beside: "a swappable pointer, borrowed",
        most: 1.2,
    },
    Goal {
        language: "rust",
        name: "pick",
        floor: "pick",
        is_own: false,
        beside: "one element from there",
        most: 1.2,
    },
    Goal {
        language: "rust",
        name: "named",
        floor: "named",
        is_own: false,
        beside: "a pointer by its name in a map",
        most: 1.3,
    },
    Goal {
        language: "c",
        name: "online",
        floor: "owned",
        is_own: false,
        beside: "a swappable pointer, reference-counted",
        most: 1.5,
    },
    Goal {
        language: "c",
        name: "pick",
        floor: "pick",
        is_own: false,
        beside: "one element from there",
        most: 1.5,
    },
    Goal {
        language: "python",
        name: "online",
        floor: "noop",
        is_own: true,
        beside: "an empty native call",
        most: 1.3,
    },
    Goal {
        language: "python",
        name: "online",
        floor: "by_name",
        is_own: true,
        beside: "a lookup by name in a dict",
        most: 0.6,
    },
    Goal {
        language: "python",
        name: "pick",
        floor: "noop",
        is_own: true,
        beside: "an empty native call",
        most: 1.5,
    },
    Goal {
        language: "node",
        name: "online",
        floor: "noop",
        is_own: true,
        beside: "an empty native call",
        most: 0.08,
    },
    Goal {
        language: "node",
        name: "pick",
        floor: "noop",
        is_own: true,
        beside: "an empty native call",
        most: 0.08,
    },
];
