//! See the library.

use std::process::ExitCode;

/// With that of the C library, memory grows for minutes while registrations change, though no more of it is
/// in use; and musl's, which the static build would have, is slow where several threads allocate.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    discoverd::cli::main()
}
