//! `[[gates]]`: rules that turn a comparison into a verdict.

use super::diagnostic::{Diagnostic, Spanned};
use super::fields::{Fields, Keyword};
use super::tree::Value;
use super::value::{Confidence, Finite, NonNegative};

/// One rule, checked once per model and variant it covers.
#[derive(Debug, Clone, PartialEq)]
pub struct GateSpec {
    /// The line `[[gates]]` itself.
    pub header: Spanned<()>,
    /// The metric, by its name in reports.
    pub metric: Spanned<String>,
    /// The variants that are judged.
    pub variant: Cover,
    /// The models for which they are judged.
    pub model: Cover,
    /// What must hold.
    pub rule: Rule,
    /// The one-sided confidence of the bounds.
    pub confidence: Confidence,
    /// What becomes of the command if the data cannot tell.
    pub on_inconclusive: OnInconclusive,
    /// How many unscored examples are tolerated.
    pub max_failed: usize,
    /// What is held against `min` or `max`.
    pub estimate: Estimate,
    /// Variants of the baseline that were removed on purpose.
    pub retired: Vec<Spanned<String>>,
}

/// Which variants or models a gate covers.
#[derive(Debug, Clone, PartialEq)]
pub enum Cover {
    /// `"*"`, which is the default.
    All,
    /// These, one or more.
    Named(Vec<Spanned<String>>),
}

impl Cover {
    /// Whether `name` is covered.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|it| it.value == name),
        }
    }
}

/// What must hold for a gate to pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Not worse than a reference by more than is tolerable.
    Compare {
        /// The reference.
        against: Spanned<Against>,
        /// The worsening that is tolerable, in the metric's unit.
        max_drop: Spanned<NonNegative>,
    },
    /// At least this value.
    Min(Spanned<f64>),
    /// At most this value.
    Max(Spanned<f64>),
}

/// The reference of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// The same variant in the baseline.
    Baseline,
    /// `variant:NAME`, of the same run. A gate that covers all variants leaves this one out.
    Variant(String),
}

/// What becomes of the command if the data cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnInconclusive {
    /// It does not succeed.
    #[default]
    Fail,
    /// It succeeds and says so.
    Warn,
    /// It succeeds.
    Pass,
}

impl Keyword for OnInconclusive {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("fail", Self::Fail),
        ("warn", Self::Warn),
        ("pass", Self::Pass),
    ];
}

/// What is held against a floor or a ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Estimate {
    /// The one-sided confidence bound.
    #[default]
    Bound,
    /// The value itself, whatever its uncertainty.
    Point,
}

impl Keyword for Estimate {
    const WORDS: &'static [(&'static str, Self)] =
        &[("bound", Self::Bound), ("point", Self::Point)];
}

/// Reads one `[[gates]]`.
pub(super) fn read(fields: Fields<'_>) -> Option<GateSpec> {
    let metric = fields.required("metric", fields.string("metric"), "\"acc\"");
    let variant = cover(fields, "variant");
    let model = cover(fields, "model");
    let rule = rule(fields);
    let confidence = fields.checked::<Confidence>("confidence");
    let on_inconclusive = fields.keyword("on_inconclusive");
    let max_failed = fields.count::<usize>("max_failed", 0);
    let estimate = fields.keyword::<Estimate>("use");
    let retired = fields.strings("retired").unwrap_or_default();
    let is_comparison = fields.has("compare");
    if is_comparison
        && estimate
            .as_ref()
            .is_some_and(|it| it.value == Estimate::Point)
    {
        fields.error(
            "use",
            "`use = \"point\"` goes with `min` or `max`, not with `compare`",
            "delete the line",
        );
    }
    let is_point = estimate
        .as_ref()
        .is_some_and(|it| it.value == Estimate::Point);
    if is_point && !is_comparison && fields.has("confidence") {
        fields.problems.push(
            Diagnostic::warning("`confidence` does nothing with `use = \"point\"`")
                .at(fields.key_place("confidence"), "")
                .help("delete the line, or judge the bound with `use = \"bound\"`"),
        );
    }
    let against_baseline = matches!(
        &rule,
        Some(Rule::Compare { against, .. }) if against.value == Against::Baseline
    );
    if fields.has("retired") && rule.is_some() && !against_baseline {
        let help = "delete the line: only a baseline can have variants that are gone";
        fields.error(
            "retired",
            "`retired` goes with `compare = \"baseline\"` only",
            help,
        );
    }
    Some(GateSpec {
        header: Spanned::new((), fields.place.clone()),
        metric: metric?,
        variant: variant?,
        model: model?,
        rule: rule?,
        confidence: confidence.map_or(Confidence::default(), |it| it.value),
        on_inconclusive: on_inconclusive.map_or(OnInconclusive::default(), |it| it.value),
        max_failed: max_failed.map_or(0, |it| it.value),
        estimate: estimate.map_or(Estimate::default(), |it| it.value),
        retired,
    })
}

/// A name, a list of names or `"*"`.
fn cover(fields: Fields<'_>, key: &str) -> Option<Cover> {
    if !fields.has(key) {
        return Some(Cover::All);
    }
    let names = fields.one_or_more(key)?;
    if names.iter().any(|it| it.value == "*") {
        if names.len() == 1 {
            return Some(Cover::All);
        }
        fields.error(
            key,
            format!("`{key}` lists \"*\" next to names"),
            "\"*\" alone stands for all",
        );
        return None;
    }
    let is_empty_list = matches!(&fields.node(key)?.value, Value::Array(items) if items.is_empty());
    if is_empty_list {
        let help = format!("name one, or delete the line: the default is \"*\", every {key}");
        fields.error(
            key,
            format!("`{key}` is an empty list, so the gate covers nothing"),
            help,
        );
        return None;
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            let message = format!("`{}` is listed twice", name.value);
            fields
                .problems
                .error(&name.place, message, "delete one of them");
        }
    }
    Some(Cover::Named(names))
}

/// Exactly one of `compare`, `min` and `max`.
fn rule(fields: Fields<'_>) -> Option<Rule> {
    let there: Vec<&str> = ["compare", "min", "max"]
        .into_iter()
        .filter(|key| fields.has(key))
        .collect();
    if !fields.has("compare") && fields.has("max_drop") && !there.is_empty() {
        let help = "a floor or ceiling has no tolerance: move the number itself";
        fields.error("max_drop", "`max_drop` goes with `compare` only", help);
    }
    if there.is_empty()
        && ["compare", "min", "max"]
            .iter()
            .any(|key| fields.seems_to_have(key))
    {
        return None;
    }
    match there[..] {
        ["min"] => fields
            .checked::<Finite>("min")
            .map(|it| Rule::Min(it.map(Finite::get))),
        ["max"] => fields
            .checked::<Finite>("max")
            .map(|it| Rule::Max(it.map(Finite::get))),
        [] if fields.has("max_drop") => {
            let help = "add `compare = \"baseline\"`, or \"variant:NAME\"";
            fields.error(
                "max_drop",
                "the gate has `max_drop`, but nothing to `compare` with",
                help,
            );
            None
        }
        [] => {
            let help =
                "add `compare = \"baseline\"` and `max_drop`, or `min = ...`, or `max = ...`";
            fields
                .problems
                .error(fields.place, "the gate has no rule", help);
            None
        }
        [_compare] => comparison(fields),
        [first, second, ..] => {
            let message = format!("the gate has both `{first}` and `{second}`");
            fields.error(second, message, "write one [[gates]] for each");
            None
        }
    }
}

fn comparison(fields: Fields<'_>) -> Option<Rule> {
    let max_drop = fields.required(
        "max_drop",
        fields.checked::<NonNegative>("max_drop"),
        "0.02",
    );
    let written = fields.string("compare")?;
    let against = match written.value.strip_prefix("variant:") {
        Some(name) => Against::Variant(name.to_owned()),
        None if written.value == "baseline" => Against::Baseline,
        None => {
            let message = format!("`{}` is nothing to compare with", written.value);
            fields.problems.error(
                &written.place,
                message,
                "write \"baseline\", or \"variant:NAME\" for another variant of this run",
            );
            return None;
        }
    };
    Some(Rule::Compare {
        against: Spanned::new(against, written.place),
        max_drop: max_drop?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, spec};

    fn text(rest: &str) -> String {
        format!("[variants.few]\ntemplate = 'T'\n[[gates]]\nmetric = 'loglikelihood'\n{rest}\n")
    }

    #[test]
    fn a_gate_has_the_defaults_of_the_format() {
        let gates = spec(&text("compare = 'baseline'\nmax_drop = 0.05")).gates;
        let [gate] = &gates[..] else {
            panic!("one gate")
        };
        assert_eq!((&gate.variant, &gate.model), (&Cover::All, &Cover::All));
        assert_eq!(gate.confidence.get(), 0.95);
        assert_eq!(gate.on_inconclusive, OnInconclusive::Fail);
        assert_eq!((gate.max_failed, gate.estimate), (0, Estimate::Bound));
        let Rule::Compare { against, max_drop } = &gate.rule else {
            panic!("a comparison")
        };
        assert_eq!(
            (&against.value, max_drop.value.get()),
            (&Against::Baseline, 0.05)
        );
        assert_eq!(gate.header.place.to_string(), "x.toml:10:1");
    }

    #[test]
    fn a_rule_parses_or_says_why_not() {
        let table = [
            ("min = -3", ""),
            (
                "max = 3.5\nuse = 'point'",
                "`max = 3.5` is out of reach: `loglikelihood` is at most 0",
            ),
            ("max = -3.5\nuse = 'point'", ""),
            ("compare = 'baseline'\nmax_drop = 0", ""),
            (
                "compare = 'baseline'\nmax_drop = -1",
                "`max_drop`: expected a finite number, 0 or more, got -1",
            ),
            (
                "compare = 'baseline'\nmax_drop = nan",
                "`max_drop`: expected a finite number, 0 or more, got NaN",
            ),
            (
                "compare = 'baseline'\nmax_drop = '1'",
                "expected a number for `max_drop`, got the string \"1\"",
            ),
            ("compare = 'baseline'", "`[[gates]]` has no `max_drop`"),
            (
                "compare = 'main'\nmax_drop = 1",
                "`main` is nothing to compare with",
            ),
            (
                "comapre = 'baseline'\nmax_drop = 1",
                "unknown key `comapre` in `[[gates]]`",
            ),
            (
                "max_drop = 1",
                "the gate has `max_drop`, but nothing to `compare` with",
            ),
            (
                "min = -3\nmax_drop = 1",
                "`max_drop` goes with `compare` only",
            ),
            ("min = -3\nmax = -1", "the gate has both `min` and `max`"),
            ("min = inf", "`min`: expected a finite number, got inf"),
            ("", "the gate has no rule"),
            (
                "compare = 'baseline'\nmax_drop = 1\nuse = 'point'",
                "`use = \"point\"` goes with `min` or `max`, not with `compare`",
            ),
            ("compare = 'baseline'\nmax_drop = 1\nuse = 'bound'", ""),
            ("min = -3\nuse = 'mean'", "`mean` is not a value of `use`"),
            (
                "min = -3\nretired = ['old']",
                "`retired` goes with `compare = \"baseline\"` only",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(message(&text(rest)), expected, "{rest}");
        }
    }

    #[test]
    fn what_goes_with_a_rule_parses_or_says_why_not() {
        let table = [
            (
                "min = -3\nconfidence = 0.5",
                "`confidence`: expected a number above 0.5 and below 1, got 0.5",
            ),
            (
                "min = -3\nconfidence = 1",
                "`confidence`: expected a number above 0.5 and below 1, got 1",
            ),
            ("min = -3\nconfidence = 0.99", ""),
            (
                "min = -3\nmax_failed = -1",
                "expected a whole number from 0 up for `max_failed`, got -1",
            ),
            (
                "min = -3\non_inconclusive = 'error'",
                "`error` is not a value of `on_inconclusive`",
            ),
            (
                "min = -3\nvariant = []",
                "`variant` is an empty list, so the gate covers nothing",
            ),
            (
                "min = -3\nvariant = ['few', 'few']",
                "`few` is listed twice",
            ),
            (
                "min = -3\nvariant = ['*', 'few']",
                "`variant` lists \"*\" next to names",
            ),
            ("min = -3\nvariant = ['*']", ""),
            (
                "min = -3\nmodel = 1",
                "expected a string or a list of strings for `model`, got 1",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(message(&text(rest)), expected, "{rest}");
        }
        assert_eq!(
            message("[[gates]]\nmin = 1\n"),
            "`[[gates]]` has no `metric`"
        );
    }

    #[test]
    fn a_cover_names_or_takes_all() {
        let gate = &spec(&text("min = -3\nvariant = 'few'")).gates[0];
        assert!(gate.variant.covers("few") && !gate.variant.covers("bare"));
        assert!(gate.model.covers("anything"));
    }
}
