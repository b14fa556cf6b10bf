//! What reading takes: nanoseconds of one call, alone and beside a writer.

use crate::child::Program;
use crate::figure::Figure;
use crate::languages::{FLOOR, program, with_peers};
use crate::measured::{Measured, Told};

/// See the module.
pub async fn run() -> Result<Told, String> {
    let ask = async |name| match name {
        FLOOR => Program::ask(program(name)?.arg("read")),
        _ => Program::ask(program(name)?.args(["read", "memory://bench"])),
    };
    let told = Measured::of(&with_peers(&[]), 1, ask).await;
    let value =
        |name: &str, key: &str| told.value(name, |told| told[key].as_f64().unwrap_or(f64::NAN));
    let mut figures = Vec::new();
    for language in told.languages() {
        for goal in GOALS.iter().filter(|goal| goal.language == language) {
            let floor = value(if goal.is_own { language } else { FLOOR }, goal.floor);
            let what = format!("{}, ns, and {}", goal.name, goal.beside);
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
    Ok(told.told(figures))
}

/// What a read may cost at most, on a machine like that of the goals.
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

/// What a read may cost at most, as a ratio to something of the same run.
struct Goal {
    language: &'static str,
    name: &'static str,
    /// Which of the floor's figures, or of the language's own.
    floor: &'static str,
    is_own: bool,
    /// What that is, in words.
    beside: &'static str,
    most: f64,
}

/// What C holds it owns, so its floor is the pointer taken along.
const GOALS: &[Goal] = &[
    Goal {
        language: "rust",
        name: "online",
        floor: "online",
        is_own: false,
        beside: "a swappable pointer looked at",
        most: 1.2,
    },
    Goal {
        language: "rust",
        name: "pick",
        floor: "pick",
        is_own: false,
        beside: "one taken from there",
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
        beside: "a swappable pointer taken along",
        most: 1.5,
    },
    Goal {
        language: "c",
        name: "pick",
        floor: "pick",
        is_own: false,
        beside: "one taken from there",
        most: 1.5,
    },
    Goal {
        language: "python",
        name: "online",
        floor: "noop",
        is_own: true,
        beside: "a native call that does nothing",
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
        beside: "a native call that does nothing",
        most: 1.5,
    },
    Goal {
        language: "node",
        name: "online",
        floor: "noop",
        is_own: true,
        beside: "a native call that does nothing",
        most: 0.08,
    },
    Goal {
        language: "node",
        name: "pick",
        floor: "noop",
        is_own: true,
        beside: "a native call that does nothing",
        most: 0.08,
    },
];
