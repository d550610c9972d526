//! `harness compare`: two runs, a run and a baseline, or two variants of one run.

use harness::compare::{self, CellPair, CompareRunsError, Evidence, Flip, RunComparison};
use harness::report::comparison::{self as report, Compared};
use harness::report::flips::per_case;

use super::args::CompareArgs;
use super::exit::Exit;
use super::output::{self, OutputError};
use super::run::style;
use super::side::{self, Side, SideError};

/// Compares what was named.
pub(super) fn run(args: &CompareArgs) -> Result<Exit, OutputError> {
    let sides = match sides(args) {
        Ok(sides) => sides,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    if !variants_fit(args, &sides) {
        output::note(
            "error: a variant is compared with another variant of the same run\n  hint: name one \
             on both sides, as in `harness compare latest:bare latest:few`, or none",
        );
        return Ok(Exit::Refused);
    }
    match compared(args, &sides) {
        Ok((comparison, flips)) => {
            let compared = Compared {
                comparison: &comparison,
                flips: &flips,
                is_complete: args.all,
            };
            output::result(&if args.json {
                output::json(&report::json(&compared))
            } else {
                report::text(&compared, style())
            })?;
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, err.hint());
            Ok(Exit::Refused)
        }
    }
}

/// A name with the variant behind its last colon, if that is one.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        // A colon may also stand in a path, as in `C:\runs`.
        Some((run, variant)) if !run.is_empty() && !variant.contains(['/', '\\']) => {
            (run, Some(variant))
        }
        _ => (name, None),
    }
}

/// Reference and candidate. A name that is no run is looked up among the other one's baselines,
/// and where both are none, among all.
fn sides(args: &CompareArgs) -> Result<(Side, Side), SideError> {
    let results = &args.results.folder;
    let (reference, candidate) = (split(&args.reference).0, split(&args.candidate).0);
    match (side::run(results, reference), side::run(results, candidate)) {
        (Ok(reference), Ok(candidate)) => Ok((reference, candidate)),
        (Err(SideError::Resolve(_)), Ok(candidate)) => {
            let experiment = candidate.evidence.experiment.clone();
            Ok((side::either(results, &experiment, reference)?, candidate))
        }
        (Ok(reference), Err(SideError::Resolve(_))) => {
            let experiment = reference.evidence.experiment.clone();
            let candidate = side::either(results, &experiment, candidate)?;
            Ok((reference, candidate))
        }
        (Err(SideError::Resolve(_)), Err(SideError::Resolve(_))) => {
            side::two_baselines(results, reference, candidate)
        }
        (Err(err), _) | (_, Err(err)) => Err(err),
    }
}

/// Whether either both sides name a variant of one run, or neither does.
fn variants_fit(args: &CompareArgs, (reference, candidate): &(Side, Side)) -> bool {
    match (split(&args.reference).1, split(&args.candidate).1) {
        (None, None) => true,
        (Some(_), Some(_)) => reference.evidence.run == candidate.evidence.run,
        _ => false,
    }
}

/// For each model and variant, what changed.
pub(crate) type Flips = Vec<(String, String, Vec<Flip>)>;

fn compared(
    args: &CompareArgs,
    (reference, candidate): &(Side, Side),
) -> Result<(RunComparison, Flips), CompareRunsError> {
    let (one, other) = (&candidate.evidence, &reference.evidence);
    let variants = (split(&args.candidate).1, split(&args.reference).1);
    let comparison = if let (Some(variant), Some(against)) = variants {
        compare::variants_of(one, variant, against)?
    } else {
        compare::runs(one, other, &args.comparison.options())?
    };
    let told = told_flips(args.all || args.json, &comparison);
    let flips = flips(one, other, &comparison, told);
    Ok((comparison, flips))
}

/// The metric by which flips are told, unless they are by all of them.
pub(crate) fn told_flips(by_all: bool, of: &RunComparison) -> Option<&str> {
    (!by_all).then(|| per_case(&of.primary))
}

/// The flips of every pair of a comparison, by `metric` or all.
pub(crate) fn flips(
    candidate: &Evidence,
    reference: &Evidence,
    of: &RunComparison,
    metric: Option<&str>,
) -> Flips {
    let mut seen: Vec<&CellPair> = Vec::new();
    for row in &of.comparisons {
        if !seen.contains(&&row.cells) {
            seen.push(&row.cells);
        }
    }
    let one = |cells: &&CellPair| {
        (
            cells.candidate_model.clone(),
            cells.candidate.clone(),
            compare::flips(candidate, reference, cells, metric),
        )
    };
    seen.iter().map(one).collect()
}
