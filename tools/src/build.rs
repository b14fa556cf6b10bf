//! `build`: the C library, the Python package, the Node package and the agent, in the dev profile and
//! in place, for the tests, the examples and the demo alike.

use crate::step::{Counted, Step};

/// Which backends go in.
#[derive(Clone, Copy)]
pub enum Features {
    /// What a user gets.
    Default,
    /// What needs no server but the agent, and no protoc to build.
    NoEtcd,
}

pub fn run(arguments: &[&str]) -> Result<(), String> {
    let features = match arguments {
        [] => Features::Default,
        ["--no-etcd"] => Features::NoEtcd,
        _ => return Err("usage: build [--no-etcd]".to_owned()),
    };
    let mut steps = vec![ffi(features), python(features), node(features)];
    if matches!(features, Features::Default) {
        steps.push(agent());
    }
    for step in steps {
        println!("==> {}", step.command_line());
        if step.run().failed > 0 {
            return Err(format!("failed: {}", step.command_line()));
        }
    }
    Ok(())
}

pub fn ffi(features: Features) -> Step {
    with_cargo_features(
        Step::new(Counted::Build, "cargo build -p discover-ffi"),
        features,
    )
}

/// The program that tests start, and the commands.
pub fn agent() -> Step {
    Step::new(Counted::Build, "cargo build -p discoverd")
}

/// The program that starts the servers which all Rust tests share.
pub fn test_servers() -> Step {
    Step::new(
        Counted::Build,
        "cargo build -p discover-testkit --bin with-servers",
    )
}

/// Installs into .venv in place: Python sources are read from this tree.
pub fn python(features: Features) -> Step {
    let develop = "python -m maturin develop --manifest-path bindings/python/Cargo.toml";
    with_cargo_features(Step::new(Counted::Build, develop), features)
}

/// npm runs the package's own build script, which reads the environment.
pub fn node(features: Features) -> Step {
    let install = Step::new(Counted::Build, "npm install --no-audit --no-fund");
    let install = install.dir("bindings/node");
    match features {
        Features::Default => install,
        Features::NoEtcd => install.env("LIBDISCOVER_FEATURES", "local,agent"),
    }
}

fn with_cargo_features(step: Step, features: Features) -> Step {
    match features {
        Features::Default => step,
        Features::NoEtcd => step
            .arg("--no-default-features")
            .arg("--features")
            .arg("local,agent"),
    }
}
