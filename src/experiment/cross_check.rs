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
        if parts.names("variants").contains(&name.value.as_str()) {
            let message = format!(
                "`{}` is called retired, but the file still has it",
                name.value
            );
            let help = "delete the variant, or take its name off `retired`";
            problems.error(&name.place, message, help);
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

#[cfg(test)]
mod tests {
    use crate::experiment::testing::message;

    const CHOICES: &str = "[dataset]\npath = 'd.csv'\ntarget = '{{ y }}'\nchoices = ['a', 'b']\n";

    /// A gate or a primary metric that nothing computes would never be evaluated.
    #[test]
    fn metrics_that_are_named_are_computed() {
        let no_target = "[dataset]\npath = 'd.csv'\n[generation]\nmax_tokens = 1\n[[metrics]]\nuse = 'is_json'\n";
        let table = [
            ("acc with choices", format!("{CHOICES}[[gates]]\nmetric = 'acc'\nmin = 0.5\n"), ""),
            (
                "acc without",
                "[[gates]]\nmetric = 'acc'\nmin = 0.5\n".to_owned(),
                "`acc` needs `[dataset].choices`, which the file does not have",
            ),
            (
                "corrected acc is declared",
                format!("{CHOICES}[experiment]\nname = 'x'\nprimary = 'acc_pmi'\n"),
                "`acc_pmi` is not computed: no `[[metrics]]` asks for it",
            ),
            ("declared", format!("{CHOICES}[experiment]\nname = 'x'\nprimary = 'acc_pmi'\n[[metrics]]\nuse = 'acc_pmi'\n"), ""),
            (
                "by its own name",
                "[generation]\nmax_tokens = 1\n[[metrics]]\nuse = 'f1'\nname = 'overlap'\n[[gates]]\nmetric = 'overlap'\nmin = 0.5\n"
                    .to_owned(),
                "",
            ),
            (
                "and not by the metric's",
                "[generation]\nmax_tokens = 1\n[[metrics]]\nuse = 'f1'\nname = 'overlap'\n[[gates]]\nmetric = 'f1'\nmin = 0.5\n"
                    .to_owned(),
                "`f1` is not computed: no `[[metrics]]` asks for it",
            ),
            ("likelihood without a target", format!("{no_target}[[gates]]\nmetric = 'bits_per_byte'\nmax = 2\n"), "`bits_per_byte` needs `[dataset].target`, which the file does not have"),
            ("is_json needs no target", no_target.to_owned(), ""),
            (
                "f1 does",
                no_target.replace("is_json", "f1"),
                "`f1` needs `[dataset].target`, which the file does not have",
            ),
            (
                "contains does not if it names a text",
                no_target.replace("'is_json'", "'contains'\nany = ['a']"),
                "",
            ),
            (
                "descriptive",
                format!("{CHOICES}[experiment]\nname = 'x'\nprimary = 'ece'\n"),
                "`ece` only describes a run and cannot rank variants",
            ),
            ("unknown", "[experiment]\nname = 'x'\nprimary = 'accuracy'\n".to_owned(), "there is no metric `accuracy`"),
            (
                "nothing at all",
                "[dataset]\npath = 'd.csv'\n".to_owned(),
                "nothing is measured: `[dataset]` has no `target` and there are no `[[metrics]]`",
            ),
        ];
        for (name, text, expected) in table {
            assert_eq!(message(&text), expected, "{name}");
        }
    }

    /// A mistake in one table does not make others look wrong.
    #[test]
    fn a_table_with_a_mistake_still_exists() {
        let table = [
            (
                "[variants.few]\nshots = -1\ntemplate = 'T'\n[[gates]]\nmetric = 'bits_per_byte'\nvariant = 'few'\nmax = 2\n",
                "expected a whole number from 0 up for `shots`, got -1",
            ),
            (
                "[generation]\nmax_tokens = 0\n[[metrics]]\nuse = 'f1'\n",
                "expected a whole number from 1 up for `max_tokens`, got 0",
            ),
            (
                "[generation]\nmax_tokens = 1\n[[metrics]]\nuse = 'regex'\n[[gates]]\nmetric = 'regex'\nmin = 0.5\n",
                "`[[metrics]]` has no `pattern`",
            ),
            (
                "[dataset]\npath = 'd.csv'\ntraget = '{{ y }}'\nchoices = ['a', 'b']\n[[gates]]\nmetric = 'acc'\nmin = 0.5\n",
                "unknown key `traget` in `[dataset]`\n`choices` without `target`: nothing says which choice is right",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(message(text), expected, "{text}");
        }
    }

    #[test]
    fn thresholds_lie_where_the_metric_can_be() {
        let gate = |metric: &str, rule: &str| {
            message(&format!(
                "{CHOICES}[generation]\nmax_tokens = 1\n[[metrics]]\nuse = ['chrf', 'ter']\n[[gates]]\nmetric = '{metric}'\n{rule}\n"
            ))
        };
        let table = [
            ("acc", "min = 1", ""),
            (
                "acc",
                "min = 75",
                "`min = 75` is out of reach: `acc` lies between 0 and 1",
            ),
            (
                "acc",
                "compare = 'baseline'\nmax_drop = 2",
                "`max_drop = 2` is out of reach: `acc` lies between 0 and 1",
            ),
            ("acc", "compare = 'baseline'\nmax_drop = 0.99", ""),
            ("chrf", "min = 55", ""),
            (
                "chrf",
                "min = 101",
                "`min = 101` is out of reach: `chrf` lies between 0 and 100",
            ),
            ("ter", "max = 120", ""),
            ("loglikelihood_per_byte", "min = -0.8", ""),
            (
                "loglikelihood_per_byte",
                "min = 0.8",
                "`min = 0.8` is out of reach: `loglikelihood_per_byte` is at most 0",
            ),
            (
                "bits_per_byte",
                "max = -1",
                "`max = -1` is out of reach: `bits_per_byte` is at least 0",
            ),
            ("loglikelihood", "compare = 'baseline'\nmax_drop = 50", ""),
        ];
        for (metric, rule, expected) in table {
            assert_eq!(gate(metric, rule), expected, "{metric} {rule}");
        }
    }

    #[test]
    fn a_gate_covers_something_that_exists() {
        let gate = |rest: &str| {
            message(&format!(
                "[variants.a]\ntemplate = 'A'\n[variants.b]\ntemplate = 'B'\n[[gates]]\nmetric = 'loglikelihood'\n{rest}\n"
            ))
        };
        let compare = "compare = 'variant:a'\nmax_drop = 1";
        let table = [
            (format!("{compare}\nvariant = '*'"), ""),
            (format!("{compare}\nvariant = ['b']\nmodel = 'smol'"), ""),
            (
                format!("{compare}\nvariant = ['a', 'b']"),
                "the gate compares `a` with itself",
            ),
            (
                format!("{compare}\nvariant = 'c'"),
                "there is no variant `c`",
            ),
            (
                format!("{compare}\nmodel = 'big'"),
                "there is no model `big`",
            ),
            (
                "compare = 'variant:c'\nmax_drop = 1".to_owned(),
                "there is no variant `c`",
            ),
            (
                "compare = 'baseline'\nmax_drop = 1\nretired = ['a']".to_owned(),
                "`a` is called retired, but the file still has it",
            ),
            (
                "compare = 'baseline'\nmax_drop = 1\nretired = ['old']".to_owned(),
                "",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(gate(&rest), expected, "{rest}");
        }
    }
}
