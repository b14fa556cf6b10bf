//! `faults`: runs scenarios of the fault lab and prints the violations.

use std::process::ExitCode;

use discover_faults::netns;
use discover_faults::run::{describe, run};
use discover_faults::scenario::{Scenario, catalogue, short};
use discover_faults::table::table;

const USAGE: &str =
    "usage: faults [--bound SECONDS] [--members N] [--times N] all | short | NAME...
       faults list
       faults soak MINUTES";

fn main() -> ExitCode {
    end_on_signals();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn command(arguments: &[&str]) -> Result<bool, String> {
    let mut arguments = arguments;
    let (mut bound, mut members, mut times) = (3.0, None, 1);
    while let [option, value, rest @ ..] = arguments {
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| format!("{option}: {value} is not a number"))
        };
        match *option {
            "--bound" => bound = number()?,
            "--members" => members = Some(number()? as usize),
            "--times" => times = number()? as usize,
            _ => break,
        }
        arguments = rest;
    }
    if arguments == ["list"] {
        catalogue()
            .iter()
            .for_each(|s| println!("{:<22}{:<6}{}", s.name, s.row, s.setup.members));
        return Ok(true);
    }
    if netns::skipped() {
        return Ok(true);
    }
    if let ["soak", minutes] = arguments {
        let minutes = minutes
            .parse()
            .map_err(|_| format!("{minutes} is not a number of minutes"))?;
        return discover_faults::soak::soak(minutes, bound);
    }
    let scenarios = match arguments {
        [] => return Err(USAGE.to_owned()),
        ["all"] => catalogue(),
        ["short"] => short(),
        names => names
            .iter()
            .map(|name| named(name))
            .collect::<Result<_, _>>()?,
    };
    let mut outcomes = Vec::new();
    for scenario in std::iter::repeat_n(scenarios, times).flatten() {
        let scenario = members.map_or(scenario.clone(), |members| scenario.on(members));
        let outcome = run(&scenario, bound);
        print!("{}", describe(&outcome));
        outcomes.push(outcome);
    }
    print!("\n{}", table(&outcomes));
    Ok(outcomes.iter().all(discover_faults::run::Outcome::passed))
}

fn named(name: &str) -> Result<Scenario, String> {
    let found = catalogue()
        .into_iter()
        .find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("unknown scenario {name}; `faults list` prints all"))
}

/// Removes the namespaces of the lab on SIGINT and SIGTERM. Child processes end with this one.
fn end_on_signals() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        });
        netns::remove_own();
        #[expect(
            clippy::disallowed_methods,
            reason = "the namespaces are removed, with all processes in them"
        )]
        std::process::exit(130);
    });
}
