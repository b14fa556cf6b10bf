//! Runs a command while shared servers are up: `with-servers COMMAND [ARGUMENT...]`.
//!
//! Test runners start one process for each test or test program; all of them find the same servers through the
//! environment variables of [`discover_testkit::etcd`]. The exit status is that of the command.

use std::process::{Command, ExitCode};

use discover_testkit::etcd::{Etcd, SHARED_V2, SHARED_V3};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return ExitCode::from(2);
    };
    let servers = [(SHARED_V3, Etcd::start()), (SHARED_V2, Etcd::start_v2())];
    let mut command = Command::new(program);
    command.args(arguments);
    for (variable, server) in &servers {
        if let Some(server) = server {
            command.env(variable, server.endpoint());
        }
    }
    let status = command.status().ok().and_then(|status| status.code());
    ExitCode::from(status.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
