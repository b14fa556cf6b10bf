//! What reading takes: nanoseconds of one call, alone and beside a writer.

use crate::child::Program;
use crate::figure::Figure;
use crate::languages::{FLOOR, LANGUAGES, program};

/// See the module.
pub async fn run() -> Result<Vec<Figure>, String> {
    let raw = Program::ask(program(FLOOR)?.arg("read"))?;
    let mut figures = Vec::new();
    for language in LANGUAGES {
        let told = Program::ask(program(language)?.args(["read", "memory://bench"]))?;
        let nanos = |name: &str| told[name].as_f64();
        // A swappable pointer is what a read of Rust or C can cost at the least.
        let native = matches!(language, "rust" | "c");
        for name in ["online", "pick", "named", "lookup"] {
            let Some(value) = nanos(name) else { continue };
            let figure = Figure::new(9, language, format!("{name}, ns"), value);
            figures.push(match (native, raw[name].as_f64(), most(language, name)) {
                (true, Some(floor), _) => figure.over(floor).most(1.5),
                (_, _, Some(most)) => figure.most(most),
                _ => figure,
            });
        }
        for name in ["online", "pick"] {
            let beside = nanos(&format!("{name}_written"));
            if let (Some(beside), Some(alone)) = (beside, nanos(name)) {
                let what = format!("{name} beside a writer, ns");
                figures.push(Figure::new(9, language, what, beside).over(alone).most(1.2));
            }
        }
    }
    Ok(figures)
}

/// The goal of a read that has no floor, in nanoseconds on a machine that does nothing else.
fn most(language: &str, name: &str) -> Option<f64> {
    match (language, name) {
        ("rust", "named") => Some(45.0),
        ("python", "online") => Some(50.0),
        ("python", "pick") => Some(60.0),
        ("node", "online") => Some(15.0),
        ("node", "pick") => Some(25.0),
        _ => None,
    }
}
