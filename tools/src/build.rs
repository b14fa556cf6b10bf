//! `build`: builds the C library, the Python package, the Node package and the agent with the dev profile and in place,
//! for the tests, the examples and the demos.

use crate::step::{Counted, Step};

/// Backends to build.
#[derive(Clone, Copy)]
pub enum Features {
    /// The default features of the packages.
    Default,
    /// `local` and `agent`, which need no protoc.
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

/// Builds the agent and its commands.
pub fn agent() -> Step {
    Step::new(Counted::Build, "cargo build -p discoverd")
}

/// Builds the program that starts the servers shared by all Rust tests.
pub fn test_servers() -> Step {
    Step::new(
        Counted::Build,
        "cargo build -p discover-testkit --bin with-servers",
    )
}

/// Installs the Python package into .venv in development mode: Python sources are read from this tree.
pub fn python(features: Features) -> Step {
    let develop = "python -m maturin develop --manifest-path bindings/python/Cargo.toml";
    with_cargo_features(Step::new(Counted::Build, develop), features)
}

/// Builds the Node package with its build script, which npm runs and which reads the environment.
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
