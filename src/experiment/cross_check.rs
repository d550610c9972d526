//! Checks of one table of the file against another.
//!
//! What is asked here is what the file says, right or wrong: a variant with a mistake in it
//! still exists, so that a gate on it is not reported as well. Checks against other files
//! belong to the room `plan`.

use super::about::About;
use super::diagnostic::{Diagnostic, Spanned};
use super::fields::{Problems, has_or_misspells, suggestion};
use super::gate::{Against, Cover, GateSpec, Rule};
use super::metric_name::{MetricName, Requires};
use super::metrics::MetricSpec;
use super::tree::{Node, Table, Value};

/// What has been read so far.
pub(super) struct Parts<'a> {
    pub(super) root: &'a Table,
    pub(super) about: Option<&'a About>,
    pub(super) metrics: &'a [MetricSpec],
    pub(super) gates: Vec<&'a GateSpec>,
}

impl Parts<'_> {
    /// The names of the tables `[key.NAME]`.
    fn names(&self, key: &str) -> Vec<&str> {
        let table = self.root.get(key).and_then(|it| it.node.as_table());
        table
            .map(|it| it.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    fn has_in_dataset(&self, key: &str) -> bool {
        let dataset = self.root.get("dataset").and_then(|it| it.node.as_table());
        dataset.is_some_and(|it| has_or_misspells(it, key))
    }

    /// The key that is needed and not there.
    fn missing(&self, requires: Requires) -> Option<&'static str> {
        let has_generation = has_or_misspells(self.root, "generation");
        match requires {
            Requires::Target if !self.has_in_dataset("target") => Some("[dataset].target"),
            Requires::Choices if !self.has_in_dataset("choices") => Some("[dataset].choices"),
            Requires::Generation | Requires::GenerationAndTarget if !has_generation => {
                Some("[generation]")
            }
            Requires::GenerationAndTarget if !self.has_in_dataset("target") => {
                Some("[dataset].target")
            }
            _ => None,
        }
    }

    /// Every name under which `[[metrics]]` may compute something, right or wrong.
    fn declared_names(&self) -> Vec<&str> {
        let Some(Value::Array(items)) = self.root.get("metrics").map(|it| &it.node.value) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for table in items.iter().filter_map(Node::as_table) {
            let of = |key: &str| table.get(key).map(|it| &it.node);
            match (of("name"), of("use")) {
                (Some(name), _) => names.extend(name.as_str()),
                (None, Some(node)) => match &node.value {
                    Value::Array(items) => names.extend(items.iter().filter_map(Node::as_str)),
                    _ => names.extend(node.as_str()),
                },
                (None, None) => {}
            }
        }
        names
    }
}

/// Reports what does not fit together.
pub(super) fn check(parts: &Parts<'_>, problems: &Problems) {
    if let Some(about) = parts.about {
        check_about(parts, about, problems);
    }
    check_something_is_measured(parts, problems);
    for spec in parts.metrics {
        if let Some(missing) = parts.missing(spec.requires()) {
            let message = format!(
                "`{}` needs `{missing}`, which the file does not have",
                spec.metric.value
            );
            problems.error(&spec.metric.place, message, how_to_add(missing));
        }
    }
    for gate in &parts.gates {
        check_gate(parts, gate, problems);
    }
}

fn check_about(parts: &Parts<'_>, about: &About, problems: &Problems) {
    if let Some(control) = &about.control {
        check_name(control, "variants", parts, problems);
    }
    if let Some(primary) = &about.primary
        && let Some(metric) = resolve(parts, primary, problems)
    {
        refuse_descriptive(primary, metric, "rank variants", problems);
    }
}

/// Without a target and without metrics, a run would compute nothing.
fn check_something_is_measured(parts: &Parts<'_>, problems: &Problems) {
    // Choices without a target are reported where they are.
    let has_answer = parts.has_in_dataset("target") || parts.has_in_dataset("choices");
    let nothing = !has_answer && !has_or_misspells(parts.root, "metrics");
    if nothing && let Some(dataset) = parts.root.get("dataset") {
        let message =
            "nothing is measured: `[dataset]` has no `target` and there are no `[[metrics]]`";
        let help = "add `target = \"{{ field }}\"`, the labelled output";
        problems.error(&dataset.node.place, message, help);
    }
}

fn how_to_add(missing: &str) -> &'static str {
    match missing {
        "[dataset].target" => "add `target = \"{{ field }}\"` under [dataset]",
        "[dataset].choices" => "add `choices = [\"negative\", \"positive\"]` under [dataset]",
        _ => "add [generation] with `max_tokens = 64`",
    }
}

/// Reports a name that is not among the tables `[key.NAME]`.
fn check_name(name: &Spanned<String>, key: &str, parts: &Parts<'_>, problems: &Problems) {
    let known = parts.names(key);
    if known.contains(&name.value.as_str()) {
        return;
    }
    let help = match suggestion(&name.value, &known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the file has: {}", known.join(", ")),
    };
    let what = key.trim_end_matches('s');
    problems.error(
        &name.place,
        format!("there is no {what} `{}`", name.value),
        help,
    );
}

/// The metric behind a name, if the file leads to it; else a report of why not.
///
/// Also `None`, without a report, for a declared metric that has a mistake of its own.
fn resolve(parts: &Parts<'_>, name: &Spanned<String>, problems: &Problems) -> Option<MetricName> {
    if let Some(spec) = parts.metrics.iter().find(|it| it.name == name.value) {
        return Some(spec.metric.value);
    }
    let declared = parts.declared_names();
    if declared.contains(&name.value.as_str()) {
        return None;
    }
    let Ok(metric) = name.value.parse::<MetricName>() else {
        let mut known = declared;
        known.extend(MetricName::ALL.map(MetricName::as_str));
        let help = match suggestion(&name.value, &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the metrics are: {}", known.join(", ")),
        };
        problems.error(
            &name.place,
            format!("there is no metric `{}`", name.value),
            help,
        );
        return None;
    };
    if !metric.is_automatic() {
        let message = format!("`{metric}` is not computed: no `[[metrics]]` asks for it");
        problems.error(
            &name.place,
            message,
            format!("add [[metrics]] with `use = \"{metric}\"`"),
        );
        return None;
    }
    if let Some(missing) = parts.missing(metric.requires()) {
        let message = format!("`{metric}` needs `{missing}`, which the file does not have");
        problems.error(&name.place, message, how_to_add(missing));
        return None;
    }
    Some(metric)
}

/// Reports a metric without intervals where one is needed.
fn refuse_descriptive(
    name: &Spanned<String>,
    metric: MetricName,
    purpose: &str,
    problems: &Problems,
) {
    let Some(instead) = metric.instead() else {
        return;
    };
    let message = format!("`{metric}` only describes a run and cannot {purpose}");
    problems.error(
        &name.place,
        message,
        format!("use `{instead}`, which has an interval and tests"),
    );
}

fn check_gate(parts: &Parts<'_>, gate: &GateSpec, problems: &Problems) {
    for (cover, key) in [(&gate.variant, "variants"), (&gate.model, "models")] {
        if let Cover::Named(names) = cover {
            for name in names {
                check_name(name, key, parts, problems);
            }
        }
    }
    for name in &gate.retired {
        if parts.names("variants").contains(&name.as_str()) {
            let message = format!("`{name}` is called retired, but the file still has it");
            let help = "delete the variant, or take its name off `retired`";
            problems.error(&gate.header.place, message, help);
        }
    }
    if let Rule::Compare { against, .. } = &gate.rule
        && let Against::Variant(reference) = &against.value
    {
        check_name(
            &Spanned::new(reference.clone(), against.place.clone()),
            "variants",
            parts,
            problems,
        );
        let is_itself = match &gate.variant {
            Cover::All => parts.names("variants") == [reference.as_str()],
            Cover::Named(names) => names.iter().any(|it| it.value == *reference),
        };
        if is_itself {
            let message = format!("the gate compares `{reference}` with itself");
            problems.error(
                &against.place,
                message,
                "compare with another variant, or take it off `variant`",
            );
        }
    }
    if let Some(metric) = resolve(parts, &gate.metric, problems) {
        refuse_descriptive(&gate.metric, metric, "be gated", problems);
        check_threshold(gate, metric, problems);
    }
}

/// A number that the metric can never reach makes a gate that always passes or always fails.
fn check_threshold(gate: &GateSpec, metric: MetricName, problems: &Problems) {
    let (least, most) = metric.range();
    let (key, place, value, is_out) = match &gate.rule {
        Rule::Min(it) => (
            "min",
            &it.place,
            it.value,
            it.value < least || most < it.value,
        ),
        Rule::Max(it) => (
            "max",
            &it.place,
            it.value,
            it.value < least || most < it.value,
        ),
        Rule::Compare { max_drop, .. } => {
            let value = max_drop.value.get();
            ("max_drop", &max_drop.place, value, most - least <= value)
        }
    };
    if !is_out {
        return;
    }
    let message = format!(
        "`{key} = {value}` is out of reach: {}",
        describe_range(metric)
    );
    let mut diagnostic = Diagnostic::error(message).at(place, "");
    if (least, most) == (0.0, 1.0) && (1.0..=100.0).contains(&value) {
        diagnostic = diagnostic.help(format!("for {value} %, write `{key} = {}`", value / 100.0));
    } else if most == 0.0 && 0.0 < value {
        diagnostic = diagnostic.help(format!(
            "a loglikelihood is never positive: `{key} = -{value}`"
        ));
    }
    problems.push(diagnostic);
}

fn describe_range(metric: MetricName) -> String {
    match metric.range() {
        (least, most) if least.is_infinite() => format!("`{metric}` is at most {most}"),
        (least, most) if most.is_infinite() => format!("`{metric}` is at least {least}"),
        (least, most) => format!("`{metric}` lies between {least} and {most}"),
    }
}
