//! The command line, nothing else: parse, run, exit. See `holdfast --help`.

mod cli;

/// The system's allocator holds one lock too many for requests on every core.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
