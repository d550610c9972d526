//! Two runs held against each other, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};

use crate::compare::{Cause, Flip, ModelDifference, PairedComparison, RunComparison, Unpaired};
use crate::metric::Unit;
use crate::stats::Verdict;

use super::Style;
use super::escape::{self, line};
use super::flips::{self, Flips};
use super::number::{self, NOTHING, about, aligned, amount, counted, fixed};
use super::ranking::listed;
use super::wrap::wrap;

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Flips of one variant and kind that a comparison lists.
const MAX_FLIPS: usize = 5;

/// Ids that a line lists.
const MAX_IDS: usize = 5;

/// A comparison with the flips of each pair of variants, in the comparison's order of variants.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The comparison.
    pub comparison: &'a RunComparison,
    /// For each model and variant, named as the candidate names them, what changed: by every
    /// metric, or by [`flips::per_case`] of the primary one where no other is shown.
    pub flips: &'a Flips,
    /// Show every metric, not only the primary one and the declared ones.
    pub is_complete: bool,
}

/// Tables of gains, the examples that flipped, and what takes no part.
pub fn text(compared: &Compared<'_>, style: Style) -> String {
    let comparison = compared.comparison;
    let mut lines = heading(comparison);
    for model in &comparison.models {
        let of_model: Vec<&PairedComparison> = comparison
            .comparisons
            .iter()
            .filter(|it| it.cells.candidate_model == model.candidate)
            .collect();
        let (primary, further): (Vec<_>, Vec<_>) =
            of_model.into_iter().partition(|it| it.is_confirmatory);
        lines.push(String::new());
        lines.push(model_line(comparison, &model.candidate, &model.differences));
        lines.extend(primary_lines(comparison, &primary, style));
        lines.extend(further_lines(&further, compared.is_complete));
        for (of, variant, flips) in compared.flips {
            if *of == model.candidate {
                lines.extend(flip_lines(variant, flips, compared));
            }
        }
    }
    lines.extend(left_out(comparison));
    lines.iter().map(|it| wrapped(it, style) + "\n").collect()
}

/// A line broken to the width, its indent kept; a table as it is.
pub(super) fn wrapped(text: &str, style: Style) -> String {
    let unindented = text.trim_start_matches(' ');
    let n_indent = text.len() - unindented.len();
    if text.contains('\n') {
        return text.to_owned();
    }
    let indent = " ".repeat(n_indent + 2);
    let width = style.width.saturating_sub(n_indent);
    format!("{:n_indent$}{}", "", wrap(unindented, width, &indent))
}

/// Whether both sides were asked the same, so that there is nothing to show.
fn is_identical(row: &PairedComparison) -> bool {
    row.method() == "identical"
}

fn primary_lines(
    comparison: &RunComparison,
    rows: &[&PairedComparison],
    style: Style,
) -> Vec<String> {
    if rows.is_empty() {
        let primary = line(&comparison.primary);
        return vec![format!(
            "The primary metric {primary} is not compared: only one side has it."
        )];
    }
    let (same, rows): (Vec<&PairedComparison>, Vec<_>) =
        rows.iter().partition(|it| is_identical(it));
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(table(&rows, style));
        lines.extend(rows.iter().flat_map(|it| remarks(it)));
    }
    if !same.is_empty() {
        let names: Vec<String> = same.iter().map(|it| cells_name(it)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        lines.push(format!(
            "Identical, both sides sent equal requests: {}.",
            listed(&names)
        ));
    }
    lines
}

/// The other metrics: all of them, or those that show something.
fn further_lines(rows: &[&PairedComparison], is_complete: bool) -> Vec<String> {
    let changed = rows.iter().filter(|it| !is_identical(it));
    let is_shown =
        |it: &PairedComparison| matches!(it.verdict, Verdict::Improved | Verdict::Regressed);
    let (shown, rest): (Vec<&PairedComparison>, Vec<_>) =
        changed.partition(|it| is_complete || is_shown(it));
    let mut lines = Vec::new();
    if !shown.is_empty() {
        lines.push(String::new());
        lines.push("Exploratory: with many metrics, some differ by luck.".to_owned());
        for row in shown {
            lines.push(refusal(row).unwrap_or_else(|| format!("  {}", gain_line(row))));
        }
    }
    if !rest.is_empty() {
        lines.push(format!(
            "Nothing shown by other metrics in {}; `harness compare --all` lists them.",
            counted(rest.len(), "comparison")
        ));
    }
    lines
}

fn heading(comparison: &RunComparison) -> Vec<String> {
    let (one, other) = (&comparison.candidate, &comparison.reference);
    if one == other {
        return vec![format!("{} · {}", line(&one.experiment), line(&one.run))];
    }
    let name = |it: &crate::compare::RunName| format!("{} {}", line(&it.experiment), line(&it.run));
    vec![
        format!("candidate  {}", name(one)),
        format!("reference  {}", name(other)),
    ]
}

fn model_line(comparison: &RunComparison, model: &str, differences: &[ModelDifference]) -> String {
    let primary = &comparison.primary;
    let row = comparison.comparisons.iter().find(|it| it.is_confirmatory);
    let unit = row.map_or("", |it| it.unit.as_str());
    let comma = if unit.is_empty() { "" } else { ", " };
    let mut text = format!(
        "{} · {}{comma}{unit} · {}",
        line(model),
        line(primary),
        counted(comparison.n_common_rows, "common example")
    );
    if !differences.is_empty() {
        let words: Vec<&str> = differences.iter().map(|it| it.as_str()).collect();
        write!(text, " · across models: {} differ", listed(&words))
            .expect("a string takes everything");
    }
    text
}

/// Columns that go first where the terminal is too narrow for all.
const DROPPED: [&str; 4] = ["n", "p adj.", "reference", "candidate"];

/// One metric of several variants, with as many columns as fit.
fn table(rows: &[&PairedComparison], style: Style) -> String {
    let mut columns = columns(rows);
    for name in DROPPED {
        let table = drawn(&columns);
        if table.lines().all(|it| escape::columns(it) <= style.width) {
            return table;
        }
        columns.retain(|it| it.0 != name);
    }
    drawn(&columns)
}

/// The header and the cells of every column.
fn columns(rows: &[&PairedComparison]) -> Vec<(&'static str, Vec<Cell>)> {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let of = |cell: &dyn Fn(&PairedComparison) -> Cell| rows.iter().map(|it| cell(it)).collect();
    let value = |row: &PairedComparison, it: Option<f64>| {
        right(it.map_or(NOTHING.to_owned(), |it| number::value(row.unit, it)))
    };
    let gains: Vec<_> = rows
        .iter()
        .map(|it| it.gain().map(|gain| (gain, it.interval())))
        .collect();
    let unit = rows.first().map_or(Unit::Plain, |it| it.unit);
    let gains = aligned(&gains, |it| number::gain(unit, it));
    let p_adjusted = |it: &PairedComparison| it.p_adjusted.map_or(NOTHING.to_owned(), p_value);
    vec![
        ("variant", of(&|it| Cell::new(cells_name(it)))),
        ("reference", of(&|it| value(it, it.reference_value))),
        ("candidate", of(&|it| value(it, it.candidate_value))),
        ("gain [95 %]", gains.into_iter().map(right).collect()),
        ("p adj.", of(&|it| right(p_adjusted(it)))),
        ("n", of(&|it| right(it.n_pairs.to_string()))),
        ("verdict", of(&|it| Cell::new(verdict(it)))),
    ]
}

fn drawn(columns: &[(&'static str, Vec<Cell>)]) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .force_no_tty();
    table.set_header(columns.iter().map(|it| it.0));
    let n_rows = columns.first().map_or(0, |it| it.1.len());
    for row in 0..n_rows {
        table.add_row(columns.iter().map(|it| it.1[row].clone()));
    }
    table.to_string()
}

/// `few`, or `few vs bare` for two variants of one run.
fn cells_name(row: &PairedComparison) -> String {
    let (one, other) = (line(&row.cells.candidate), line(&row.cells.reference));
    if one == other {
        one
    } else {
        format!("{one} vs {other}")
    }
}

/// One row in a line: `acc of smol · few: -2.5 [-5.0, 0.0] pp, inconclusive`.
pub fn gain_line(row: &PairedComparison) -> String {
    let unit = match number::difference_unit(row.unit) {
        "" => String::new(),
        unit => format!(" {unit}"),
    };
    let gain = [row.gain().map(|gain| (gain, row.interval()))];
    let gain = aligned(&gain, |it| number::gain(row.unit, it)).concat();
    format!(
        "{} of {} · {}: {gain}{unit}, {}",
        line(&row.metric),
        line(&row.cells.candidate_model),
        cells_name(row),
        verdict(row)
    )
}

pub(super) fn verdict(row: &PairedComparison) -> String {
    let word = row.verdict.name();
    match row.method() {
        "identical" => format!("{word} (identical)"),
        "too_few_units" => format!("{word} (too few)"),
        "not_comparable" | "no_pairs" => "not compared".to_owned(),
        _ => word.to_owned(),
    }
}

/// Three decimals; smaller ones say so.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else {
        fixed(p, 3)
    }
}

/// What stands below the primary metric's table.
fn remarks(row: &PairedComparison) -> Vec<String> {
    let name = cells_name(row);
    let mut lines: Vec<String> = refusal(row).into_iter().collect();
    if row.verdict == Verdict::Inconclusive
        && let Some(smallest) = row.smallest_difference
    {
        let settle = row.n_to_settle.map_or(String::new(), |n| {
            format!(
                "; about {} examples would settle a difference of this size",
                about(n)
            )
        });
        lines.push(format!(
            "{name}: this dataset shows a difference of {} 4 times in 5{settle}.",
            amount(row.unit, smallest)
        ));
    }
    if let Some(gains) = row.spread_of_gains {
        lines.push(format!(
            "{name}: {} % of the examples improved, {} % got worse; median gain {}.",
            fixed(100.0 * gains.share_improved, 0),
            fixed(100.0 * gains.share_worsened, 0),
            number::gain(row.unit, gains.median)
        ));
    }
    if let Some(dominant) = &row.dominant {
        lines.push(format!(
            "{name}: `{}` alone holds {} % of the spread.",
            line(&dominant.unit),
            fixed(100.0 * dominant.share, 0)
        ));
    }
    lines
}

fn refusal(row: &PairedComparison) -> Option<String> {
    let why = row.refusal.as_ref()?;
    Some(format!(
        "{} of {}: not compared: {}.",
        line(&row.metric),
        cells_name(row),
        line(&why.to_string())
    ))
}

/// Which examples an edit broke and fixed, the largest changes first.
fn flip_lines(variant: &str, flips: &[Flip], compared: &Compared<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for of_metric in flips.chunk_by(|a, b| a.metric == b.metric) {
        let metric = &*of_metric[0].metric;
        let rows = &compared.comparison.comparisons;
        let is_shown =
            compared.is_complete || metric == flips::per_case(&compared.comparison.primary);
        let row = rows.iter().find(|it| it.metric == metric && is_shown);
        let Some(row) = row else {
            continue;
        };
        lines.push(String::new());
        lines.push(format!("{} by {}", line(variant), line(metric)));
        lines.extend(
            flips::lists(of_metric, row.unit, MAX_FLIPS)
                .iter()
                .map(|it| format!("  {it}")),
        );
    }
    lines
}

/// A value with its unit, such as `87.5 %`.
pub fn value(unit: Unit, value: f64) -> String {
    let space = if unit.as_str().is_empty() { "" } else { " " };
    format!("{}{space}{}", number::value(unit, value), unit.as_str())
}

/// Rows, variants, models and metrics that take no part.
fn left_out(comparison: &RunComparison) -> Vec<String> {
    let mut lines = Vec::new();
    let mut list = |what: &str, names: &[String]| {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|it| line(it)).collect();
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    };
    list("New variants, not compared", &comparison.new_variants);
    list(
        "Variants only in the reference",
        &comparison.missing_variants,
    );
    list("Edited variants", &comparison.edited_variants);
    list("New models, not compared", &comparison.new_models);
    list("Models only in the reference", &comparison.missing_models);
    list("New metrics, not compared", &comparison.new_metrics);
    list("Metrics only in the reference", &comparison.missing_metrics);
    for it in &comparison.redefined_metrics {
        lines.push(format!(
            "Not compared: {} is computed as {}, was as {}",
            line(&it.metric),
            line(&it.candidate),
            line(&it.reference)
        ));
    }
    lines.extend(unpaired_lines("Rows", &comparison.unpaired_rows));
    for row in comparison
        .comparisons
        .iter()
        .filter(|it| it.is_confirmatory)
    {
        let what = format!("{} of {}", line(&row.metric), cells_name(row));
        lines.extend(unpaired_lines(&what, &row.unpaired));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

fn unpaired_lines(what: &str, unpaired: &[Unpaired]) -> Vec<String> {
    let mut by_cause: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for it in unpaired {
        by_cause
            .entry(cause(it.cause))
            .or_default()
            .push(&it.example_id);
    }
    let one = |(cause, ids): (String, Vec<&str>)| {
        let shown: Vec<String> = ids.iter().take(MAX_IDS).map(|it| line(it)).collect();
        let more = if MAX_IDS < ids.len() { ", …" } else { "" };
        format!(
            "{what} without a partner: {} {cause} ({}{more})",
            ids.len(),
            shown.join(", ")
        )
    };
    by_cause.into_iter().map(one).collect()
}

fn cause(cause: Cause) -> String {
    match cause {
        Cause::OnlyInCandidate => "only in the candidate".to_owned(),
        Cause::OnlyInReference => "only in the reference".to_owned(),
        Cause::FieldsChanged => "with other fields".to_owned(),
        Cause::TargetChanged => "with another target".to_owned(),
        Cause::UnscoredInCandidate(it) => format!("unscored in the candidate, {}", it.as_str()),
        Cause::UnscoredInReference(it) => format!("unscored in the reference, {}", it.as_str()),
        Cause::UnscoredInBoth {
            candidate,
            reference,
        } => format!(
            "unscored in both, {} and {}",
            candidate.as_str(),
            reference.as_str()
        ),
    }
}

/// Everything, unrounded.
pub fn json(compared: &Compared<'_>) -> Value {
    let comparison = compared.comparison;
    let run = |it: &crate::compare::RunName| json!({"experiment": it.experiment, "run": it.run});
    let unpaired = |list: &[Unpaired]| -> Vec<Value> {
        let one = |it: &Unpaired| json!({"example_id": it.example_id, "cause": cause(it.cause)});
        list.iter().map(one).collect()
    };
    let rows = comparison.comparisons.iter().map(|it| {
        let interval = it.interval();
        json!({
            "model": it.cells.candidate_model,
            "variant_a": it.cells.candidate,
            "variant_b": it.cells.reference,
            "metric": it.metric,
            "is_confirmatory": it.is_confirmatory,
            "candidate_value": it.candidate_value,
            "reference_value": it.reference_value,
            "difference": it.gain(),
            "ci_low": interval.map(|of| of.low),
            "ci_high": interval.map(|of| of.high),
            "p_value": it.p_value(),
            "p_adjusted": it.p_adjusted,
            "method": it.method(),
            "not_compared": it.refusal.as_ref().map(ToString::to_string),
            "verdict": it.verdict.name(),
            "margin": it.margin,
            "n_pairs": it.n_pairs,
            "n_units": it.n_units(),
            "smallest_difference": it.smallest_difference,
            "n_to_settle": it.n_to_settle,
            "median_gain": it.spread_of_gains.map(|of| of.median),
            "share_improved": it.spread_of_gains.map(|of| of.share_improved),
            "share_worsened": it.spread_of_gains.map(|of| of.share_worsened),
            "unpaired": unpaired(&it.unpaired),
        })
    });
    let models = comparison.models.iter().map(|it| {
        let differences: Vec<&str> = it.differences.iter().map(|of| of.as_str()).collect();
        json!({"candidate": it.candidate, "reference": it.reference, "differences": differences})
    });
    json!({
        "schema_version": JSON_VERSION,
        "candidate": run(&comparison.candidate),
        "reference": run(&comparison.reference),
        "primary": comparison.primary,
        "models": models.collect::<Vec<_>>(),
        "n_common_rows": comparison.n_common_rows,
        "unpaired_rows": unpaired(&comparison.unpaired_rows),
        "new_variants": comparison.new_variants,
        "missing_variants": comparison.missing_variants,
        "edited_variants": comparison.edited_variants,
        "new_metrics": comparison.new_metrics,
        "missing_metrics": comparison.missing_metrics,
        "comparisons": rows.collect::<Vec<_>>(),
        "flips": flips::values(compared.flips),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{self, Evidence, RunsOptions, sketch};

    const STYLE: Style = Style {
        color: false,
        width: 80,
    };

    /// `bare` was edited for the worse, `few` not at all, one row is new.
    fn runs() -> (Evidence, Evidence) {
        let mut candidate = sketch::run("b", 40, [-0.1, 0.0]);
        let id = "new\u{1b}[2J".to_owned();
        candidate.examples.edit(7, |it| it.id = id);
        (candidate, sketch::run("a", 40, [0.0, 0.0]))
    }

    fn compared(is_complete: bool, primary: &str) -> (String, Value) {
        let (mut candidate, reference) = runs();
        primary.clone_into(&mut candidate.primary);
        let comparison = compare::runs(&candidate, &reference, &RunsOptions::default()).unwrap();
        let flips: Vec<_> = ["bare", "few"]
            .map(|variant| {
                let mut rows = comparison.comparisons.iter();
                let row = rows.find(|it| it.cells.candidate == variant).unwrap();
                let flips = compare::flips(&candidate, &reference, &row.cells, None);
                ("smol".to_owned(), variant.to_owned(), flips)
            })
            .into();
        let compared = Compared {
            comparison: &comparison,
            flips: &flips,
            is_complete,
        };
        (text(&compared, STYLE), json(&compared))
    }

    #[test]
    fn a_comparison_shows_what_changed_and_by_which_examples() {
        insta::assert_snapshot!(compared(false, "loglikelihood_per_byte").0);
    }

    #[test]
    fn a_yes_or_no_flips_from_right_to_wrong() {
        insta::assert_snapshot!(compared(false, "exact_match").0);
    }

    #[test]
    fn everything_is_listed_where_asked_for() {
        let (short, _) = compared(false, "exact_match");
        let (all, _) = compared(true, "exact_match");
        assert!(short.lines().count() < all.lines().count());
        for metric in ["brier", "chrf", "loglikelihood_per_token"] {
            let line = format!("  {metric} of smol · bare: ");
            assert!(
                all.lines().any(|it| it.starts_with(&line)),
                "{metric}: {all}"
            );
        }
        assert!(all.contains("bare by loglikelihood\n"), "{all}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for (text, _) in [compared(true, "acc"), compared(false, "brier")] {
            for it in text.lines() {
                assert!(crate::report::escape::columns(it) <= STYLE.width, "{it}");
            }
        }
    }

    #[test]
    fn json_has_the_numbers_of_the_text() {
        let (_, json) = compared(false, "loglikelihood_per_byte");
        let rows = json["comparisons"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|it| it["is_confirmatory"] == true)
            .unwrap();
        // 0.1 nats less for every byte.
        assert!((row["difference"].as_f64().unwrap() + 0.1).abs() < 1e-9);
        assert_eq!(row["verdict"], "regressed");
        assert_eq!(row["n_pairs"], 39);
        assert_eq!(json["unpaired_rows"].as_array().unwrap().len(), 2);
        assert!(!json["flips"].as_array().unwrap().is_empty());
    }
}
