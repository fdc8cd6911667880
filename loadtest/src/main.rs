//! The tester's command line, nothing else: parse, run, exit. See `loadtest --help`.

/// The system's allocator holds one lock too many beside a server on the same cores.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    holdfast_loadtest::cli::main()
}
