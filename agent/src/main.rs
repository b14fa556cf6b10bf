//! The program `discoverd`.

use std::process::ExitCode;

/// The allocator. With that of glibc, resident memory grows for minutes while registrations change, though the
/// memory in use does not. That of musl, in the static build, is slow with several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    discoverd::cli::main()
}
