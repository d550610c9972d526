//! Two runs held against each other, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};

use crate::compare::{
    Cause, Flip, FlipKind, ModelDifference, PairedComparison, RunComparison, Unpaired,
};
use crate::stats::Verdict;

use super::Style;
use super::escape::line;
use super::number::{self, NOTHING, about, aligned, amount, counted, fixed};
use super::ranking::listed;

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Flips of one variant that are shown.
const MAX_FLIPS: usize = 5;

/// Ids that a line lists.
const MAX_IDS: usize = 5;

/// A comparison with the flips of each pair of variants, in the comparison's order of variants.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The comparison.
    pub comparison: &'a RunComparison,
    /// For each model and variant, named as the candidate names them, what changed.
    pub flips: &'a [(String, String, Vec<Flip>)],
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
        lines.push(table(&primary, style).to_string());
        lines.extend(primary.iter().flat_map(|it| remarks(it)));
        if !further.is_empty() {
            lines.push(String::new());
            lines.push("Exploratory: with many metrics, some differ by luck.".to_owned());
            lines.push(table(&further, style).to_string());
            lines.extend(further.iter().filter_map(|it| refusal(it)));
        }
        for (of, variant, flips) in compared.flips {
            if *of == model.candidate {
                lines.extend(flip_lines(variant, flips, compared));
            }
        }
    }
    lines.extend(left_out(comparison));
    lines.join("\n") + "\n"
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
    let mut text = format!(
        "{} · {}",
        line(model),
        counted(comparison.n_common_rows, "common example")
    );
    if !differences.is_empty() {
        let words: Vec<&str> = differences.iter().map(|it| it.as_str()).collect();
        write!(text, " · across models: {} differ", listed(&words))
            .expect("a string takes everything");
    }
    text
}

fn table(rows: &[&PairedComparison], style: Style) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(style.width).unwrap_or(u16::MAX))
        .force_no_tty();
    table.set_header([
        "metric",
        "variant",
        "reference",
        "candidate",
        "gain [95 %]",
        "p adj.",
        "n",
        "verdict",
    ]);
    // Units differ from metric to metric, so texts are aligned within each.
    let mut gains = Vec::new();
    for of_metric in rows.chunk_by(|a, b| a.metric == b.metric) {
        let values: Vec<_> = of_metric
            .iter()
            .map(|it| it.gain().map(|gain| (gain, it.interval())))
            .collect();
        gains.extend(aligned(&values, |it| number::gain(of_metric[0].unit, it)));
    }
    for (row, gain) in rows.iter().zip(gains) {
        let value =
            |it: Option<f64>| it.map_or(NOTHING.to_owned(), |it| number::value(row.unit, it));
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let unit = match row.unit.as_str() {
            "" => line(&row.metric),
            unit => format!("{} {unit}", line(&row.metric)),
        };
        table.add_row([
            Cell::new(unit),
            Cell::new(cells_name(row)),
            right(value(row.reference_value)),
            right(value(row.candidate_value)),
            right(gain),
            right(row.p_adjusted.map_or(NOTHING.to_owned(), p_value)),
            right(row.n_pairs.to_string()),
            Cell::new(verdict(row)),
        ]);
    }
    table
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

/// Which examples an edit fixed and broke, the largest changes first.
fn flip_lines(variant: &str, flips: &[Flip], compared: &Compared<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for of_metric in flips.chunk_by(|a, b| a.metric == b.metric) {
        let metric = &of_metric[0].metric;
        let rows = &compared.comparison.comparisons;
        let row = rows.iter().find(|it| it.metric == *metric);
        let Some(row) = row.filter(|it| it.is_confirmatory || compared.is_complete) else {
            continue;
        };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for flip in of_metric {
            *counts.entry(flip.kind.as_str()).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|it| format!("{} {}", it.1, it.0))
            .collect();
        lines.push(String::new());
        lines.push(format!(
            "{} by {metric}: {}",
            line(variant),
            counts.join(", ")
        ));
        for flip in of_metric.iter().take(MAX_FLIPS) {
            lines.push(format!(
                "  {} {}  {} → {}",
                mark(flip.kind),
                line(&flip.example_id),
                number::value(row.unit, flip.before),
                number::value(row.unit, flip.after)
            ));
        }
        if MAX_FLIPS < of_metric.len() {
            lines.push(format!("  … and {} more", of_metric.len() - MAX_FLIPS));
        }
    }
    lines
}

fn mark(kind: FlipKind) -> &'static str {
    match kind {
        FlipKind::Fixed => "fixed   ",
        FlipKind::Broke => "broke   ",
        FlipKind::Improved => "improved",
        FlipKind::Worsened => "worsened",
    }
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
    let flips = compared.flips.iter().flat_map(|(model, variant, flips)| {
        flips.iter().map(move |it| {
            json!({
                "model": model,
                "variant": variant,
                "metric": it.metric,
                "example_id": it.example_id,
                "before": it.before,
                "after": it.after,
                "kind": it.kind.as_str(),
            })
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
        "flips": flips.collect::<Vec<_>>(),
    })
}
