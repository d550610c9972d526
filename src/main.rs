//! `harness`: which of these prompts is better, by how much, and is it real?
//!
//! A thin shell over the library of the same name; see [`harness`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
