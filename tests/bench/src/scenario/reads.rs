//! What reading takes: nanoseconds of one call, alone and beside a writer.

use serde_json::Value;

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
        let (online, pick) = match language {
            "rust" => (10.0, 10.0),
            "c" => (15.0, 15.0),
            "python" => (50.0, 60.0),
            _ => (15.0, 25.0),
        };
        for (name, most) in [
            ("online", Some(online)),
            ("pick", Some(pick)),
            ("named", Some(45.0)),
            ("lookup", None),
        ] {
            let Some(value) = nanos(name) else { continue };
            let mut figure = Figure::new(9, language, format!("{name}, ns"), value);
            figure.most = most;
            figures.push(figure);
        }
        for name in ["online", "pick"] {
            let beside = nanos(&format!("{name}_written"));
            if let (Some(beside), Some(alone)) = (beside, nanos(name)) {
                let what = format!("{name} beside a writer, ns");
                figures.push(Figure::new(9, language, what, beside).over(alone).most(1.2));
            }
        }
    }
    for name in ["online", "pick"] {
        let value = raw.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        figures.push(Figure::new(9, FLOOR, format!("{name}, ns"), value));
    }
    Ok(figures)
}
