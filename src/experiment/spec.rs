//! The whole experiment file as typed data.

use indexmap::IndexMap;

use super::about::{self, About};
use super::cross_check;
use super::dataset::{self, DatasetSpec, FewshotSpec};
use super::diagnostic::{Diagnostic, Place, Spanned};
use super::fields::{Explain, Fields, Problems, has_or_misspells};
use super::gate::{self, GateSpec};
use super::metric_name::{MetricName, Requires};
use super::metrics::{self, MetricSpec};
use super::model::{self, ModelSpec};
use super::scoring::{self, GenerationSpec, ScoringSpec};
use super::tree::{Node, Table, Value};
use super::value::check_name;
use super::variant::{self, Surroundings, VariantSpec};

/// What a person wrote, after profile and flags; valid as far as one file can tell.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentSpec {
    /// `[experiment]`.
    pub experiment: About,
    /// `[models.NAME]`, one or more, in the order of the file.
    pub models: IndexMap<String, ModelSpec>,
    /// `[dataset]`.
    pub dataset: DatasetSpec,
    /// `[fewshot]`.
    pub fewshot: Option<FewshotSpec>,
    /// `[variants.NAME]`, one or more, in the order of the file.
    pub variants: IndexMap<String, VariantSpec>,
    /// `[scoring]`.
    pub scoring: ScoringSpec,
    /// `[generation]`; without it nothing is generated.
    pub generation: Option<GenerationSpec>,
    /// `[[metrics]]`, one per metric, in the order of the file.
    pub metrics: Vec<MetricSpec>,
    /// `[[gates]]`, in the order of the file.
    pub gates: Vec<GateSpec>,
}

impl ExperimentSpec {
    /// Every metric that this file leads to, by its name in reports: those of the likelihood
    /// if there is a target, those of the choices if there are any, then the declared ones.
    pub fn computed_metrics(&self) -> Vec<(&str, MetricName)> {
        let has = |requires| match requires {
            Requires::Target => self.dataset.target.is_some(),
            Requires::Choices => self.dataset.choices.is_some(),
            Requires::Generation | Requires::GenerationAndTarget => false,
        };
        let automatic = MetricName::ALL
            .into_iter()
            .filter(|metric| metric.is_automatic() && has(metric.requires()))
            .map(|metric| (metric.as_str(), metric));
        let declared = self
            .metrics
            .iter()
            .map(|spec| (spec.name.as_str(), spec.metric.value));
        let mut computed: Vec<(&str, MetricName)> = automatic.collect();
        for pair in declared {
            if !computed.contains(&pair) {
                computed.push(pair);
            }
        }
        computed
    }

    /// The metric of that name in reports, if this file leads to it.
    pub fn metric(&self, name: &str) -> Option<MetricName> {
        self.computed_metrics()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, metric)| metric)
    }

    /// The metric that ranks the variants, with its name in reports: as written, else `acc`
    /// with choices, else the first of `[[metrics]]` that can rank, else
    /// `loglikelihood_per_byte`.
    pub fn primary(&self) -> (&str, MetricName) {
        if let Some(written) = &self.experiment.primary
            && let Some(metric) = self.metric(&written.value)
        {
            return (&written.value, metric);
        }
        if self.dataset.choices.is_some() {
            return ("acc", MetricName::Acc);
        }
        let first = self
            .metrics
            .iter()
            .find(|spec| !spec.metric.value.is_descriptive());
        first.map_or(
            ("loglikelihood_per_byte", MetricName::LoglikelihoodPerByte),
            |spec| (spec.name.as_str(), spec.metric.value),
        )
    }
}

/// Reads the tree. The result is `None`, or `problems` has errors, if anything is wrong.
///
/// `file` is the place for what is missing from the file as a whole.
pub(super) fn read(root: &Table, file: &Place, problems: &Problems) -> Option<ExperimentSpec> {
    let about = one_table(root, "experiment", problems, about::read);
    let models = named_tables(root, "models", file, problems);
    let models: Vec<_> = models
        .into_iter()
        .map(|it| {
            (
                it.name.value.clone(),
                it.fields(problems).and_then(model::read),
            )
        })
        .collect();
    let dataset = one_table(root, "dataset", problems, dataset::read);
    let fewshot = one_table(root, "fewshot", problems, dataset::read_fewshot);
    let variants = read_variants(root, file, problems);
    let scoring = one_table(root, "scoring", problems, |fields| {
        Some(scoring::read(fields))
    });
    let generation = one_table(root, "generation", problems, scoring::read_generation);
    let metrics: Vec<MetricSpec> = list_of_tables(root, "metrics", problems)
        .into_iter()
        .flat_map(metrics::read)
        .collect();
    metrics::check_names(&metrics, problems);
    let gates: Vec<Option<GateSpec>> = list_of_tables(root, "gates", problems)
        .into_iter()
        .map(gate::read)
        .collect();
    for (table, example) in [
        ("experiment", "name = \"translate\""),
        ("dataset", "path = \"data/en-fr.jsonl\""),
    ] {
        if !has_or_misspells(root, table) {
            let help = format!("add [{table}] with at least `{example}`");
            problems.error(file, format!("the file has no table `[{table}]`"), help);
        }
    }
    cross_check::check(
        &cross_check::Parts {
            root,
            about: about.as_ref(),
            metrics: &metrics,
            gates: gates.iter().flatten().collect(),
        },
        problems,
    );
    Some(ExperimentSpec {
        experiment: about?,
        models: models
            .into_iter()
            .map(|(name, model)| Some((name, model?)))
            .collect::<Option<_>>()?,
        dataset: dataset?,
        fewshot,
        variants,
        scoring: scoring.unwrap_or_default(),
        generation,
        metrics,
        gates: gates.into_iter().collect::<Option<_>>()?,
    })
}

/// A table of the file that stands once.
fn one_table<'a, T>(
    root: &'a Table,
    key: &str,
    problems: &'a Problems,
    read: impl FnOnce(Fields<'_>) -> Option<T>,
) -> Option<T> {
    let entry = root.get(key)?;
    Fields::of(&entry.node, &format!("[{key}]"), problems).and_then(read)
}

/// A table under a name that the user chose.
struct Named<'a> {
    name: Spanned<String>,
    /// `[variants.few]`.
    title: String,
    node: &'a Node,
}

impl<'a> Named<'a> {
    fn fields(&'a self, problems: &'a Problems) -> Option<Fields<'a>> {
        Fields::of(self.node, &self.title, problems)
    }
}

/// The tables `[key.NAME]`, of which there must be one.
fn named_tables<'a>(
    root: &'a Table,
    key: &str,
    file: &Place,
    problems: &Problems,
) -> Vec<Named<'a>> {
    let what = key.trim_end_matches('s');
    let line = match key {
        "models" => "source = \"builtin:smollm2-135m-instruct\"",
        _ => "template = \"{{ text }}\\nAnswer:\"",
    };
    let help = format!("add [{key}.NAME] with at least `{line}`");
    let Some(entry) = root.get(key) else {
        if !has_or_misspells(root, key) {
            let message = format!("the file has no {what}");
            problems.error(file, message, help);
        }
        return Vec::new();
    };
    let Some(table) = entry.node.as_table() else {
        let message = format!(
            "expected tables `[{key}.NAME]`, got {}",
            entry.node.value.kind()
        );
        problems.push(Diagnostic::error(message).at(&entry.node.place, ""));
        return Vec::new();
    };
    if table.is_empty() {
        let message = format!("`[{key}]` is empty, so the file has no {what}");
        problems.error(&entry.key, message, help);
    }
    let mut named = Vec::new();
    for (name, entry) in table {
        if let Err(error) = check_name(name) {
            problems.push(Diagnostic {
                help: error.help(),
                ..Diagnostic::error(format!("{what} {error}")).at(&entry.key, "")
            });
        }
        named.push(Named {
            name: Spanned::new(name.clone(), entry.key.clone()),
            title: format!("[{key}.{name}]"),
            node: &entry.node,
        });
    }
    named
}

fn read_variants(root: &Table, file: &Place, problems: &Problems) -> IndexMap<String, VariantSpec> {
    let dataset = root.get("dataset").and_then(|it| it.node.as_table());
    let around = Surroundings {
        has_fewshot: has_or_misspells(root, "fewshot"),
        has_target: dataset.is_some_and(|it| has_or_misspells(it, "target")),
    };
    let named = named_tables(root, "variants", file, problems);
    let tables: Vec<_> = named
        .iter()
        .filter_map(|it| Some((it.name.clone(), it.fields(problems)?)))
        .collect();
    variant::read(&tables, around)
}

/// The tables `[[key]]`.
fn list_of_tables<'a>(root: &'a Table, key: &str, problems: &'a Problems) -> Vec<Fields<'a>> {
    let Some(entry) = root.get(key) else {
        return Vec::new();
    };
    let Value::Array(items) = &entry.node.value else {
        let message = format!(
            "expected tables `[[{key}]]`, got {}",
            entry.node.value.kind()
        );
        problems.error(
            &entry.node.place,
            message,
            format!("open each one with two brackets: [[{key}]]"),
        );
        return Vec::new();
    };
    let title = if key == "metrics" {
        "[[metrics]]"
    } else {
        "[[gates]]"
    };
    items
        .iter()
        .filter_map(|item| Fields::of(item, title, problems))
        .collect()
}
