//! The command line: the only code that prints, draws progress or ends the program.
//!
//! [`main`] reads what was typed and calls one function per subcommand. Each returns how
//! the program ends ([`exit::Exit`]) after it has told everything; an `Err` is only ever
//! that standard output could not be written to.

mod analysis;
mod args;
mod baseline;
mod check;
mod ci;
mod compare;
mod draw;
mod execute;
mod exit;
mod forecasts;
mod gates;
mod glob;
mod help;
mod init;
mod lazy_engine;
mod model_info;
mod models;
mod open;
mod output;
mod plan;
mod progress;
mod query;
mod recorder;
mod report;
mod run;
mod run_folder;
mod show;
mod side;
mod signal;
mod slips;
mod trust;
mod try_example;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use harness::engine::Stop;

use self::args::{Args, Command};
use self::exit::Exit;
use self::output::OutputError;

/// Raised by the first signal, once a command that can stop halfway calls [`signal::watch`].
static STOP: Stop = Stop::new();

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    std::panic::set_hook(Box::new(output::panicked));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) => {
            // Help and version end well, and on stdout; a closed pipe is fine here too.
            err.print().ok();
            return if err.use_stderr() {
                Exit::Refused
            } else {
                Exit::Done
            }
            .into();
        }
    };
    dispatch(&args.command)
        .unwrap_or_else(|err| {
            output::error(&err, None);
            Exit::Incomplete
        })
        .into()
}

fn dispatch(command: &Command) -> Result<Exit, OutputError> {
    match command {
        Command::Models(args) => models::run(&args.command),
        Command::Init(args) => init::run(args),
        Command::Schema => {
            output::result(&output::json(&harness::experiment::schema()))?;
            Ok(Exit::Done)
        }
        Command::Completions(args) => {
            let mut script = Vec::new();
            let mut command = Args::command();
            clap_complete::generate(args.shell, &mut command, "harness", &mut script);
            output::as_it_is(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Baseline(args) => baseline::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Try(args) => try_example::run(args),
        Command::Show(args) => show::run(args),
        Command::Report(args) => report::run(args),
        Command::Query(args) => query::run(args),
    }
}
