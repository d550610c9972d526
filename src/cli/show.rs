//! `harness show`: a stored run again, or a closer look at its cases.

use std::path::Path;

use harness::compare::{self, CellPair, Evidence};
use harness::report::{ReportInput, cases_json, flips, json, show, text};
use harness::stats::Direction;
use harness::table;

use super::args::ShowArgs;
use super::exit::Exit;
use super::output::{self, OutputError};
use super::run::style;
use super::run_folder;

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
    if args.flips {
        return show_flips(args, &folder);
    }
    if args.example.is_none() && !args.failures && !args.prompts {
        return show_ranking(args, &folder);
    }
    let run = match table::read(&folder) {
        Ok(run) => run,
        Err(err) => {
            output::error(&err, run_folder::hint(&folder, err.hint()).as_deref());
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
        None => show::prompts(&run, N_SHOWN, style()),
    };
    output::result(&shown)?;
    Ok(Exit::Done)
}

/// The ranking, for which no single case has to be in memory.
fn show_ranking(args: &ShowArgs, folder: &Path) -> Result<Exit, OutputError> {
    let run = match table::read_summary(folder) {
        Ok(run) => run,
        Err(err) => {
            output::error(&err, run_folder::hint(folder, err.hint()).as_deref());
            return Ok(Exit::Refused);
        }
    };
    match ReportInput::from_summary(&run) {
        Ok(input) => {
            output::result(&if args.json {
                json::summary(&input)
            } else {
                text::summary(&input, style())
            })?;
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, None);
            Ok(Exit::Refused)
        }
    }
}

/// What every variant gets right or wrong that the control, or else the best one, does not.
fn show_flips(args: &ShowArgs, folder: &Path) -> Result<Exit, OutputError> {
    let evidence = match table::read_evidence(folder) {
        Ok(evidence) => evidence,
        Err(err) => {
            output::error(&err, run_folder::hint(folder, err.hint()).as_deref());
            return Ok(Exit::Refused);
        }
    };
    let Some(reference) = evidence.control.clone().or_else(|| best(&evidence)) else {
        output::note("error: no variant of this run has a value of its primary metric");
        return Ok(Exit::Refused);
    };
    let metric = (!args.json).then(|| flips::per_case(&evidence.primary));
    let mut found = Vec::new();
    for model in &evidence.models {
        for variant in evidence.variants.iter().filter(|it| it.name != reference) {
            let cells = CellPair {
                candidate_model: model.name.clone(),
                candidate: variant.name.clone(),
                reference_model: model.name.clone(),
                reference: reference.clone(),
            };
            let of_variant = compare::flips(&evidence, &evidence, &cells, metric);
            found.push((model.name.clone(), variant.name.clone(), of_variant));
        }
    }
    output::result(&if args.json {
        output::json(&flips::json(&evidence, &reference, &found))
    } else {
        flips::text(&evidence, &reference, &found, style())
    })?;
    Ok(Exit::Done)
}

/// The variant with the best value of the primary metric, on the first model.
fn best(evidence: &Evidence) -> Option<String> {
    let metric = evidence.metric(&evidence.primary)?;
    let sign = match evidence.metrics[metric].metric.direction {
        Direction::HigherIsBetter => 1.0,
        Direction::LowerIsBetter => -1.0,
    };
    let value =
        |variant: usize| Some(sign * evidence.sample(0, variant, metric).ok()?.sample.value());
    let values = (0..evidence.variants.len()).filter_map(|it| Some((it, value(it)?)));
    let best = values.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    Some(evidence.variants[best.0].name.clone())
}
