//! Which examples went from right to wrong, or to a worse number, and the other way round.
//!
//! Examples are named by id; prompts and texts are not shown.

use serde_json::{Value, json};

use crate::compare::{Evidence, Flip, FlipKind};
use crate::metric::Unit;

use super::Style;
use super::comparison::wrapped;
use super::escape::line;
use super::number;

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Flips of each kind that `show --flips` lists.
const MAX_SHOWN: usize = 20;

/// For each model and variant, what changed.
pub type Flips = [(String, String, Vec<Flip>)];

/// What each variant of a run gets right or wrong that `reference` does not, by the metric of
/// single examples that belongs to the primary one; ends in a line feed.
pub fn text(evidence: &Evidence, reference: &str, flips: &Flips, style: Style) -> String {
    let metric = per_case(&evidence.primary);
    let unit = evidence.metric(metric);
    let unit = unit.map_or(Unit::Plain, |it| evidence.metrics[it].metric.unit);
    let mut lines = vec![format!(
        "{} · {} · flips by {metric} against {}",
        line(&evidence.experiment),
        line(&evidence.run),
        line(reference)
    )];
    for (model, variant, flips) in flips {
        let own: Vec<Flip> = flips
            .iter()
            .filter(|it| &*it.metric == metric)
            .cloned()
            .collect();
        lines.push(String::new());
        let none = if own.is_empty() { ": none" } else { "" };
        lines.push(format!("{} · {}{none}", line(model), line(variant)));
        let lists = lists(&own, unit, MAX_SHOWN);
        lines.extend(lists.iter().map(|it| format!("  {it}")));
    }
    lines.iter().map(|it| wrapped(it, style) + "\n").collect()
}

/// The same as JSON, by every metric of single examples.
pub fn json(evidence: &Evidence, reference: &str, flips: &Flips) -> Value {
    json!({
        "schema_version": JSON_VERSION,
        "experiment": evidence.experiment,
        "run": evidence.run,
        "reference": reference,
        "flips": values(flips),
    })
}

/// The metric of single examples that tells most about another one.
pub fn per_case(metric: &str) -> &str {
    match metric {
        "loglikelihood_per_token" | "loglikelihood_per_byte" | "bits_per_byte" => "loglikelihood",
        "bleu" => "sentence_bleu",
        "chrf" | "chrf++" => "sentence_chrf",
        "macro_f1" => "acc",
        other => other,
    }
}

/// Flips of one metric, a line for each kind, what got worse first; at most `max` ids each.
pub fn lists(flips: &[Flip], unit: Unit, max: usize) -> Vec<String> {
    let kinds = [
        FlipKind::Broke,
        FlipKind::Worsened,
        FlipKind::Fixed,
        FlipKind::Improved,
    ];
    let of_kind = |kind: FlipKind| {
        let of_kind: Vec<&Flip> = flips.iter().filter(|it| it.kind == kind).collect();
        if of_kind.is_empty() {
            return None;
        }
        let one = |it: &&Flip| match kind {
            FlipKind::Broke | FlipKind::Fixed => line(&it.example_id),
            FlipKind::Worsened | FlipKind::Improved => format!(
                "{} ({} → {})",
                line(&it.example_id),
                number::value(unit, it.before),
                number::value(unit, it.after)
            ),
        };
        let shown: Vec<String> = of_kind.iter().take(max).map(one).collect();
        let more = match of_kind.len().saturating_sub(max) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let (kind, n) = (kind.as_str(), of_kind.len());
        Some(format!("{kind} {n}: {}{more}", shown.join(", ")))
    };
    kinds.into_iter().filter_map(of_kind).collect()
}

/// Flips as JSON, one object each.
pub(super) fn values(flips: &Flips) -> Vec<Value> {
    let of_variant = |(model, variant, flips): &(String, String, Vec<Flip>)| -> Vec<Value> {
        let one = |it: &Flip| {
            json!({
                "model": model,
                "variant": variant,
                "metric": &*it.metric,
                "example_id": it.example_id,
                "before": it.before,
                "after": it.after,
                "kind": it.kind.as_str(),
            })
        };
        flips.iter().map(one).collect()
    };
    flips.iter().flat_map(of_variant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{self, sketch};

    const STYLE: Style = Style {
        color: false,
        width: 80,
    };

    #[test]
    fn flips_within_a_run_name_their_reference() {
        let run = sketch::run("a", 20, [0.0, 0.2]);
        let cells = crate::compare::CellPair {
            candidate_model: "smol".to_owned(),
            candidate: "few".to_owned(),
            reference_model: "smol".to_owned(),
            reference: "bare".to_owned(),
        };
        let flips = vec![(
            "smol".to_owned(),
            "few".to_owned(),
            compare::flips(&run, &run, &cells, None),
        )];
        insta::assert_snapshot!(text(&run, "bare", &flips, STYLE));
        let json = json(&run, "bare", &flips);
        assert_eq!(json["reference"], "bare");
    }
}
