//! Numbers of passed, failed and skipped tests, read from the output of their runner.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

#[derive(Clone, Copy)]
pub enum Runner {
    Cargo,
    Nextest,
    Pytest,
    Node,
}

/// Printed by a Rust test that cannot run here. libtest cannot skip a running test and counts it as passed. The test
/// writes to `std::io::stdout()` directly, because libtest captures `println!`.
const SKIP_MARK: &str = "SKIPPED: ";

/// Reads the counts from the complete output of a runner.
pub fn read(runner: Runner, output: &str) -> Counts {
    match runner {
        Runner::Cargo => cargo(output),
        Runner::Nextest => output
            .lines()
            .rev()
            .find_map(nextest_summary)
            .unwrap_or_default(),
        Runner::Pytest => output
            .lines()
            .rev()
            .find_map(pytest_summary)
            .unwrap_or_default(),
        Runner::Node => node(output),
    }
}

impl Counts {
    pub fn one(success: bool) -> Counts {
        Counts {
            passed: success.into(),
            failed: (!success).into(),
            skipped: 0,
        }
    }

    /// Makes the counts agree with the exit status of the runner. A runner that failed without naming a test (it
    /// crashed or did not build) and one that ran no test count as one failure.
    pub fn settle(mut self, success: bool) -> Counts {
        let ran_nothing = self == Counts::default();
        if self.failed == 0 && (!success || ran_nothing) {
            self.failed = 1;
        }
        self
    }

    /// Counts `tests` as skipped that their runner counted as passed.
    pub fn skip(mut self, tests: u32) -> Counts {
        let skipped = self.passed.min(tests);
        self.passed -= skipped;
        self.skipped += skipped;
        self
    }

    fn add(&mut self, number: u32, word: &str) {
        match word {
            "passed" | "pass" | "xpassed" => self.passed += number,
            "failed" | "fail" | "error" | "errors" | "cancelled" | "timed out" | "exec failed" => {
                self.failed += number;
            }
            "skipped" | "ignored" | "xfailed" | "todo" => self.skipped += number,
            _ => {} // warnings, deselected, filtered out, suites: not tests that ran.
        }
    }
}

/// One line for each test program: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn cargo(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        let Some((_, result)) = line.split_once("test result: ") else {
            continue;
        };
        let Some((_, numbers)) = result.split_once(". ") else {
            continue;
        };
        for part in numbers.split("; ") {
            if let Some((number, word)) = number_and_word(part) {
                counts.add(number, word);
            }
        }
    }
    let marks = output
        .matches(SKIP_MARK)
        .count()
        .try_into()
        .unwrap_or(u32::MAX);
    counts.skip(marks)
}

/// `Summary [ 1.2s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 2 skipped`.
fn nextest_summary(line: &str) -> Option<Counts> {
    let (_, numbers) = line
        .trim_start()
        .strip_prefix("Summary [")?
        .split_once(" run: ")?;
    let mut counts = Counts::default();
    let mut rest = numbers;
    // What is in parentheses repeats a part of the number before them.
    while let Some((before, after)) = rest.split_once(" (") {
        add_list(&mut counts, before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    add_list(&mut counts, rest);
    Some(counts)
}

fn add_list(counts: &mut Counts, list: &str) {
    for (number, word) in list.split(',').filter_map(number_and_word) {
        counts.add(number, word);
    }
}

/// `==== 3 passed, 1 skipped in 0.12s ====`, with or without the frame.
fn pytest_summary(line: &str) -> Option<Counts> {
    let (parts, time) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    if !time.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let mut counts = Counts::default();
    for part in parts.split(", ") {
        let (number, word) = number_and_word(part)?;
        counts.add(number, word);
    }
    Some(counts)
}

/// `# pass 3` from the TAP reporter, `ℹ pass 3` from the one for people.
fn node(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        let Some(line) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) else {
            continue;
        };
        let Some((word, number)) = line.split_once(' ') else {
            continue;
        };
        if let Ok(number) = number.parse() {
            counts.add(number, word);
        }
    }
    counts
}

fn number_and_word(part: &str) -> Option<(u32, &str)> {
    let (number, word) = part.trim().split_once(' ')?;
    Some((number.parse().ok()?, word))
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Counts>>(counts: I) -> Counts {
        counts.fold(Counts::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// The last line of `make test`. Programs parse it: its form is fixed.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u32, failed: u32, skipped: u32) -> Counts {
        Counts {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn cargo_test_programs_are_summed() {
        let output = "
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.2s
";
        assert_eq!(read(Runner::Cargo, output), counts(8, 2, 1));
    }

    #[test]
    fn a_rust_test_that_reports_a_skip_does_not_count_as_passed() {
        let output = "
test a ... SKIPPED: etcd: not installed
ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        assert_eq!(read(Runner::Cargo, output), counts(1, 0, 1));
    }

    #[test]
    fn nextest_is_read_from_its_summary() {
        let output = "     Summary [   1.065s] 10 tests run: 7 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 3 skipped\n";
        assert_eq!(read(Runner::Nextest, output), counts(7, 3, 3));
        assert_eq!(read(Runner::Nextest, "error: no tests"), counts(0, 0, 0));
    }

    #[test]
    fn pytest_is_read_from_its_last_summary() {
        let framed =
            "== 1 passed in 0.1s ==\n=== 3 passed, 2 skipped, 1 warning in 61.20s (0:01:01) ===\n";
        assert_eq!(read(Runner::Pytest, framed), counts(3, 0, 2));
        let quiet = "..F.\n1 failed, 4 passed, 1 xfailed, 2 errors in 0.12s\n";
        assert_eq!(read(Runner::Pytest, quiet), counts(4, 3, 1));
        assert_eq!(
            read(Runner::Pytest, "=== no tests ran in 0.01s ==="),
            counts(0, 0, 0)
        );
        assert_eq!(
            read(Runner::Pytest, "3 passed in good time"),
            counts(0, 0, 0)
        );
    }

    #[test]
    fn both_reporters_of_node_are_read() {
        let tap = "ok 1 - a\n    # pass 9\n# tests 6\n# suites 1\n# pass 3\n# fail 1\n# cancelled 1\n# skipped 1\n# todo 0\n# duration_ms 12.5\n";
        assert_eq!(read(Runner::Node, tap), counts(3, 2, 1));
        let spec = "✔ a (1.2ms)\nℹ tests 2\nℹ pass 2\nℹ fail 0\n";
        assert_eq!(read(Runner::Node, spec), counts(2, 0, 0));
    }

    #[test]
    fn a_runner_that_crashes_or_runs_nothing_is_one_failure() {
        assert_eq!(counts(3, 0, 0).settle(false), counts(3, 1, 0));
        assert_eq!(counts(3, 2, 0).settle(false), counts(3, 2, 0));
        assert_eq!(counts(0, 0, 0).settle(true), counts(0, 1, 0));
        assert_eq!(counts(0, 0, 1).settle(true), counts(0, 0, 1));
    }

    #[test]
    fn the_last_line_has_its_exact_form() {
        let sum: Counts = [counts(1, 2, 0), Counts::one(true)].into_iter().sum();
        assert_eq!(sum.to_string(), "2 passed, 2 failed, 0 skipped");
    }
}
