//! `harness`: which of these prompts is better, by how much, and is it real?
//!
//! A thin shell over the library of the same name; see [`harness`].

mod cli;

/// Every layer allocates and drops rows of the same few sizes, which mimalloc keeps lists of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
