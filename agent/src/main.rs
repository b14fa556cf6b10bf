//! See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    discoverd::cli::main()
}
