//! `harness show`: a stored run again, or a closer look at its cases.

use harness::report::{ReportInput, cases_json, json, show, text};
use harness::table;

use super::args::ShowArgs;
use super::exit::Exit;
use super::output::{self, OutputError};
use super::run::style;

/// Cases that `--failures` and `--prompts` show of each variant.
const N_SHOWN: usize = 5;

/// Shows the run that was named.
pub(super) fn run(args: &ShowArgs) -> Result<Exit, OutputError> {
    let folder = match table::resolve(&args.results.folder, &args.run) {
        Ok(folder) => folder,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    let run = match table::read(&folder) {
        Ok(run) => run,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    let shown = match &args.example {
        Some(id) => {
            let shown = if args.json {
                show::example_cases(&run, id).map(|it| cases_json::cases(&run, &it))
            } else {
                show::example(&run, id, style())
            };
            match shown {
                Ok(shown) => shown,
                Err(err) => {
                    output::error(&err, err.hint().as_deref());
                    return Ok(Exit::Refused);
                }
            }
        }
        None if args.failures && args.json => {
            cases_json::cases(&run, &show::failing_cases(&run, N_SHOWN))
        }
        None if args.failures => show::failures(&run, N_SHOWN, style()),
        None if args.prompts && args.json => {
            cases_json::cases(&run, &show::first_cases(&run, N_SHOWN))
        }
        None if args.prompts => show::prompts(&run, N_SHOWN, style()),
        None => match ReportInput::from_stored(&run) {
            Ok(input) if args.json => json::summary(&input),
            Ok(input) => text::summary(&input, style()),
            Err(err) => {
                output::error(&err, None);
                return Ok(Exit::Refused);
            }
        },
    };
    output::result(&shown)?;
    Ok(Exit::Done)
}
