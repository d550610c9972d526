//! `harness`: which of these prompts is better, by how much, and is it real?
//!
//! A thin shell over the library of the same name; see [`harness`].

mod cli;

/// Many short-lived rows are allocated in every layer, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
