//! `test` and `soak`: run stages, continue after a failed one, and print the totals.

use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::root;
use crate::stages::Stage;

struct Outcome {
    stage: &'static str,
    counts: Counts,
    time: Duration,
    /// The failed command, or the reason why the stage was skipped.
    note: String,
}

/// Runs the named stages in the order of `stages`; all of them if `names` is empty.
pub fn run(stages: Vec<Stage>, names: &[&str]) -> Result<(), String> {
    let stages = selected(stages, names)?;
    let outcomes: Vec<Outcome> = stages.iter().map(run_stage).collect();
    print_table(&outcomes);
    let sum: Counts = outcomes.iter().map(|outcome| outcome.counts).sum();
    println!("\n{sum}");
    // The sum is the last line of the output, so the error carries no message.
    let success = sum.failed == 0 && sum.passed > 0;
    success.then_some(()).ok_or_else(String::new)
}

fn selected(all: Vec<Stage>, names: &[&str]) -> Result<Vec<Stage>, String> {
    let known: Vec<&str> = all.iter().map(|stage| stage.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "unknown name {unknown}; known names: {}",
            known.join(" ")
        ));
    }
    let wanted = |stage: &Stage| names.is_empty() || names.contains(&stage.name);
    Ok(all.into_iter().filter(wanted).collect())
}

#[expect(clippy::disallowed_methods, reason = "measures wall-clock time")]
fn run_stage(stage: &Stage) -> Outcome {
    let begin = Instant::now();
    let mut counts = Counts::default();
    let mut note = String::new();
    if root().join(stage.about).exists() {
        for step in &stage.steps {
            println!("\n==> {}: {}", stage.name, step.command_line());
            counts += step.run();
            if counts.failed > 0 {
                note = format!("failed: {}", step.command_line());
                break;
            }
        }
    } else {
        counts.skipped = 1;
        note = format!("skipped: {} does not exist", stage.about);
    }
    Outcome {
        stage: stage.name,
        counts,
        time: begin.elapsed(),
        note,
    }
}

fn print_table(outcomes: &[Outcome]) {
    println!(
        "\n{:<13}{:>8}{:>8}{:>8}{:>9}",
        "stage", "passed", "failed", "skipped", "time"
    );
    for Outcome {
        stage,
        counts,
        time,
        note,
    } in outcomes
    {
        let Counts {
            passed,
            failed,
            skipped,
        } = counts;
        let time = format!("{:.1} s", time.as_secs_f64());
        let line = format!("{stage:<13}{passed:>8}{failed:>8}{skipped:>8}{time:>9}  {note}");
        println!("{}", line.trim_end());
    }
}
