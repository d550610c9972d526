//! Scores, estimates and comparisons to tables: what each column holds.

use std::borrow::Cow;
use std::ops::Range;

use crate::compare::Comparison;
use crate::metric::{Measurement, Metric, predicted_choice};
use crate::score::{ChoiceScore, Likelihood, Score, TokenScore};
use crate::stats::{Direction, Verdict};

use super::{Column, TOKENS, Table};

/// The text of a token id of the model at an index.
pub type TokenText<'a> = &'a dyn Fn(u32, usize) -> String;

/// Everything that the tables of one run are made of; indices point into these lists.
#[derive(Clone, Copy)]
pub struct RunTables<'a> {
    /// Name of the experiment.
    pub experiment: &'a str,
    /// Id of the run.
    pub run: &'a str,
    /// Names of the models.
    pub models: &'a [String],
    /// Names of the variants.
    pub variants: &'a [String],
    /// The examples, in plan order.
    pub examples: &'a dyn Examples,
    /// The metrics.
    pub metrics: &'a [Metric],
    /// Every metric of every variant on every model.
    pub measurements: &'a [Measured],
    /// The compared pairs of variants.
    pub comparisons: &'a [Comparison],
    /// Tells the text of a token; without it there is no table of tokens.
    pub with_tokens: Option<TokenText<'a>>,
}

/// One example as its tables show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleRow {
    /// Unique in its dataset.
    pub id: String,
    /// Digest of the fields, by which runs pair their examples.
    pub row_digest: String,
    /// The line it started on, from 1.
    pub source_line: usize,
    /// What it belongs to.
    pub cluster: Option<String>,
    /// The labelled output; with choices, the right one.
    pub target: Option<String>,
    /// The dataset's own columns as text.
    pub fields: Vec<(String, String)>,
}

/// The examples of a run, in plan order; made into rows only where they are written.
pub trait Examples {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Unique in its dataset.
    fn id(&self, index: usize) -> &str;
    /// The labelled output; with choices, the right one.
    fn target(&self, index: usize) -> Option<&str>;
    /// Whether they belong to clusters.
    fn has_clusters(&self) -> bool;
    /// The names of the fields that have a text in some row, by first appearance.
    fn field_names(&self) -> Vec<String>;
    /// One of them as its table shows it.
    fn row(&self, index: usize) -> ExampleRow;
}

impl Examples for Vec<ExampleRow> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn id(&self, index: usize) -> &str {
        &self[index].id
    }

    fn target(&self, index: usize) -> Option<&str> {
        self[index].target.as_deref()
    }

    fn has_clusters(&self) -> bool {
        self.iter().any(|it| it.cluster.is_some())
    }

    fn field_names(&self) -> Vec<String> {
        let mut names = indexmap::IndexSet::new();
        names.extend(self.iter().flat_map(|it| &it.fields).map(|it| it.0.clone()));
        names.into_iter().collect()
    }

    fn row(&self, index: usize) -> ExampleRow {
        self[index].clone()
    }
}

/// What a metric measured for one variant on one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Index of the model.
    pub model: usize,
    /// Index of the variant.
    pub variant: usize,
    /// Index of the metric.
    pub metric: usize,
    /// The estimate, or that there is none.
    pub measurement: Measurement,
}

/// The tables of some cases, which come in plan order: `cases`, `choices` and, where asked for,
/// `tokens`.
pub(super) fn of_cases<'a>(run: &RunTables<'a>, scores: &[&'a Score]) -> Vec<Table<'a>> {
    let mut tables = vec![cases(run, scores), choices(run, scores)];
    if let Some(text) = run.with_tokens {
        tables.push(tokens(run, scores, text));
    }
    tables
}

/// The tables `metrics` and `comparisons`.
pub(super) fn of_results<'a>(run: &RunTables<'a>) -> [Table<'a>; 2] {
    [metrics(run), comparisons(run)]
}

/// All tables of a run in one piece each, in the order in which they are written.
#[cfg(test)]
pub(super) fn tables<'a>(run: &RunTables<'a>, scores: &'a [Score]) -> Vec<Table<'a>> {
    let mut scores: Vec<&Score> = scores.iter().collect();
    scores.sort_by_key(|it| it.key);
    let mut tables = of_cases(run, &scores);
    let names = run.examples.field_names();
    let [metrics, comparisons] = of_results(run);
    let others = [
        examples(run, &names, 0..run.examples.len()),
        metrics,
        comparisons,
    ];
    tables.splice(2..2, others);
    tables
}

/// The columns that every table starts with.
fn origin<'a>(run: &RunTables<'a>, n_rows: usize) -> Vec<Column<'a>> {
    let same = |text: &'a str| std::iter::repeat_n(Some(text), n_rows);
    vec![
        Column::text("experiment", same(run.experiment)),
        Column::text("run", same(run.run)),
    ]
}

/// The columns that place a row's score in the plan.
fn place<'a>(
    run: &RunTables<'a>,
    scores: impl Iterator<Item = &'a Score> + Clone,
) -> [Column<'a>; 3] {
    let run = *run;
    [
        Column::text(
            "model",
            scores
                .clone()
                .map(|it| Some(run.models[it.key.model].as_str())),
        ),
        Column::text(
            "variant",
            scores
                .clone()
                .map(|it| Some(run.variants[it.key.variant].as_str())),
        ),
        Column::text(
            "example_id",
            scores.map(|it| Some(run.examples.id(it.key.example))),
        ),
    ]
}

fn cases<'a>(run: &RunTables<'a>, scores: &[&'a Score]) -> Table<'a> {
    let each = || scores.iter().copied();
    let all = run.examples;
    let target = |it: &Score| all.target(it.key.example);
    let of_likelihood =
        |it: &Score, value: fn(&Likelihood) -> usize| it.likelihood.as_ref().map(value);
    let right = |it: &Score| it.choices.iter().position(|choice| choice.is_target);
    let generation = |it: &'a Score| it.generation.as_ref();
    let mut columns = origin(run, scores.len());
    columns.extend(place(run, each()));
    columns.extend([
        Column::count("repeat", each().map(|it| Some(it.key.repeat))),
        Column::text("status", each().map(|it| Some(it.status.as_str()))),
        Column::text("prompt", each().map(|it| Some(it.prompt.as_str()))),
        Column::text("target", each().map(target)),
        Column::count(
            "n_context_tokens",
            each().map(|it| Some(it.n_context_tokens)),
        ),
        Column::count(
            "n_target_tokens",
            each().map(|it| of_likelihood(it, |of| of.n_tokens)),
        ),
        Column::count(
            "n_target_bytes",
            each().map(|it| of_likelihood(it, |of| of.n_bytes)),
        ),
        Column::number(
            "loglikelihood",
            each().map(|it| it.likelihood.map(|of| of.loglikelihood)),
        ),
        Column::claim(
            "greedy_match",
            each().map(|it| it.likelihood.map(|of| of.greedy_match)),
        ),
        Column::claim(
            "boundary_merge",
            each().map(|it| it.likelihood.map(|of| of.boundary_merge)),
        ),
        Column::count(
            "predicted_choice",
            each().map(|it| predicted_choice(&it.choices)),
        ),
        Column::count("target_choice", each().map(right)),
        Column::text(
            "generation",
            each().map(|it| generation(it).map(|of| of.text.as_str())),
        ),
        Column::text(
            "finish_reason",
            each().map(|it| generation(it).map(|of| of.finish_reason.as_str())),
        ),
        Column::count(
            "n_generated_tokens",
            each().map(|it| generation(it).map(|of| of.n_tokens)),
        ),
    ]);
    for metric in run.metrics.iter().filter(|it| it.is_per_case()) {
        columns.push(Column::number(
            &metric.name,
            each().map(|it| metric.case_value(it)),
        ));
    }
    Table::new("cases", columns)
}

fn choices<'a>(run: &RunTables<'a>, scores: &[&'a Score]) -> Table<'a> {
    let rows: Vec<(&'a Score, usize, &'a ChoiceScore)> = scores
        .iter()
        .flat_map(|score| {
            score
                .choices
                .iter()
                .enumerate()
                .map(|(i, choice)| (*score, i, choice))
        })
        .collect();
    let each = || rows.iter().map(|it| it.2);
    let mut columns = origin(run, rows.len());
    columns.extend(place(run, rows.iter().map(|it| it.0)));
    columns.extend([
        Column::count("choice_index", rows.iter().map(|it| Some(it.1))),
        Column::text("choice", each().map(|it| Some(it.text.as_str()))),
        Column::claim("is_target", each().map(|it| Some(it.is_target))),
        Column::number("loglikelihood", each().map(|it| Some(it.loglikelihood))),
        Column::count("n_tokens", each().map(|it| Some(it.n_tokens))),
        Column::count("n_chars", each().map(|it| Some(it.n_chars()))),
        Column::count("n_bytes", each().map(|it| Some(it.n_bytes()))),
        Column::number("prior", each().map(|it| it.prior)),
    ]);
    Table::new("choices", columns)
}

/// The examples at some places; `names` are those of the fields of all examples.
pub(super) fn examples<'a>(
    run: &RunTables<'a>,
    names: &[String],
    places: Range<usize>,
) -> Table<'a> {
    let mut columns = origin(run, places.len());
    let mut rows: Vec<ExampleRow> = places.map(|it| run.examples.row(it)).collect();
    let (mut ids, mut digests) = (Vec::new(), Vec::new());
    let (mut lines, mut clusters) = (Vec::new(), Vec::new());
    for row in &mut rows {
        ids.push(Some(std::mem::take(&mut row.id)));
        digests.push(Some(std::mem::take(&mut row.row_digest)));
        lines.push(Some(row.source_line));
        clusters.push(row.cluster.take());
    }
    columns.extend([
        Column::text("example_id", ids.into_iter()),
        Column::text("row_digest", digests.into_iter()),
        Column::count("source_line", lines.into_iter()),
        Column::text("cluster", clusters.into_iter()),
    ]);
    // A row may lack fields that others have; the columns are those of all rows.
    for name in names {
        let cell = |row: &mut ExampleRow| {
            let field = row.fields.iter_mut().find(|field| field.0 == *name)?;
            Some(std::mem::take(&mut field.1))
        };
        let cells: Vec<Option<String>> = rows.iter_mut().map(cell).collect();
        columns.push(Column::text(name, cells.into_iter()));
    }
    Table::new("examples", columns)
}

fn metrics<'a>(run: &RunTables<'a>) -> Table<'a> {
    let run = *run;
    let mut rows: Vec<&Measured> = run.measurements.iter().collect();
    rows.sort_by_key(|it| (it.model, it.variant, it.metric));
    let each = || rows.iter().copied();
    let metric = |it: &Measured| &run.metrics[it.metric];
    let estimate = |it: &Measured| it.measurement.estimate;
    let interval = |it: &Measured| estimate(it).and_then(|of| of.interval);
    let is_higher_better = |it: &Measured| metric(it).direction == Direction::HigherIsBetter;
    let mut columns = origin(&run, rows.len());
    columns.extend([
        Column::text(
            "model",
            each().map(|it| Some(run.models[it.model].as_str())),
        ),
        Column::text(
            "variant",
            each().map(|it| Some(run.variants[it.variant].as_str())),
        ),
        Column::text("metric", each().map(|it| Some(metric(it).name.as_str()))),
        Column::number("value", each().map(|it| estimate(it).map(|of| of.value))),
        Column::number(
            "stderr",
            each().map(|it| estimate(it).and_then(|of| of.stderr)),
        ),
        Column::number("ci_low", each().map(|it| interval(it).map(|of| of.low))),
        Column::number("ci_high", each().map(|it| interval(it).map(|of| of.high))),
        Column::count(
            "n",
            each().map(|it| Some(estimate(it).map_or(0, |of| of.n))),
        ),
        Column::count("n_failed", each().map(|it| Some(it.measurement.n_failed))),
        Column::claim(
            "higher_is_better",
            each().map(|it| Some(is_higher_better(it))),
        ),
        Column::text(
            "signature",
            each().map(|it| metric(it).signature.as_deref()),
        ),
    ]);
    Table::new("metrics", columns)
}

fn comparisons<'a>(run: &RunTables<'a>) -> Table<'a> {
    let run = *run;
    let mut rows: Vec<&'a Comparison> = run.comparisons.iter().collect();
    rows.sort_by_key(|it| (it.model, it.metric));
    let each = || rows.iter().copied();
    let variant = |index: usize| Some(run.variants[index].as_str());
    let mut columns = origin(&run, rows.len());
    columns.extend([
        Column::text(
            "model",
            each().map(|it| Some(run.models[it.model].as_str())),
        ),
        Column::text(
            "metric",
            each().map(|it| Some(run.metrics[it.metric].name.as_str())),
        ),
        Column::text("variant_a", each().map(|it| variant(it.candidate))),
        Column::text("variant_b", each().map(|it| variant(it.reference))),
        Column::number("difference", each().map(|it| it.gain)),
        Column::number("ci_low", each().map(|it| it.interval.map(|of| of.low))),
        Column::number("ci_high", each().map(|it| it.interval.map(|of| of.high))),
        Column::number("p_value", each().map(|it| it.p_value)),
        Column::number("p_adjusted", each().map(|it| it.p_adjusted)),
        Column::count("n_pairs", each().map(|it| Some(it.n_pairs))),
        Column::count("n_unpaired", each().map(|it| Some(it.n_unpaired))),
        Column::text("method", each().map(|it| Some(it.method.as_str()))),
        Column::number("margin", each().map(|it| it.margin)),
        Column::text("verdict", each().map(|it| it.verdict.map(Verdict::name))),
    ]);
    Table::new("comparisons", columns)
}

fn tokens<'a>(run: &RunTables<'a>, scores: &[&'a Score], text: TokenText<'_>) -> Table<'a> {
    let rows: Vec<(&'a Score, TokenScore)> = scores
        .iter()
        .flat_map(|score| score.tokens.iter().map(|token| (*score, *token)))
        .collect();
    let each = || rows.iter().map(|it| it.1);
    let token = |it: &(&Score, TokenScore)| Cow::Owned(text(it.1.token_id, it.0.key.model));
    let mut columns = origin(run, rows.len());
    columns.extend(place(run, rows.iter().map(|it| it.0)));
    columns.extend([
        Column::count("choice_index", each().map(|it| it.choice_index)),
        Column::count("position", each().map(|it| Some(it.position))),
        Column::count("token_id", each().map(|it| Some(it.token_id as usize))),
        Column::text("token", rows.iter().map(|it| Some(token(it)))),
        Column::number("logprob", each().map(|it| Some(f64::from(it.logprob)))),
        Column::claim("is_argmax", each().map(|it| Some(it.is_argmax))),
    ]);
    Table::new(TOKENS, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture::Run;
    use crate::table::{Manifest, Values, fixture, stored};

    fn stored_run(run: &Run) -> crate::table::StoredRun {
        let folder = std::path::Path::new("runs/x");
        stored(folder, fixture::manifest(), &run.tables(), &run.scores).unwrap()
    }

    fn described(run: &RunTables<'_>, scores: &[Score]) -> String {
        let table = |it: &Table<'_>| format!("[{}]\n{}\n", it.name, it.describe());
        tables(run, scores).iter().map(table).collect()
    }

    /// The columns of the contract. A change here raises the schema version and stands in the
    /// changelog.
    #[test]
    fn the_schema_of_every_table_is_kept() {
        let run = Run::new();
        let text = |id: u32, _: usize| format!("<{id}>");
        let tables = RunTables {
            with_tokens: Some(&text),
            ..run.tables()
        };
        insta::assert_snapshot!(described(&tables, &run.scores));
    }

    #[test]
    fn a_run_without_rows_has_all_columns() {
        let (full, empty) = (Run::new(), Run::empty());
        let fields = "text: string\nCluster_: string\n";
        let without_fields = described(&full.tables(), &full.scores).replace(fields, "");
        assert_eq!(described(&empty.tables(), &[]), without_fields);
        assert!(stored_run(&empty).cases.is_empty());
    }

    #[test]
    fn rows_stand_in_plan_order_whatever_the_order_of_work() {
        let run = Run::new();
        let stored = stored_run(&run);
        let order: Vec<(&str, &str, usize)> = stored
            .cases
            .iter()
            .map(|it| (it.variant.as_str(), it.example_id.as_str(), it.repeat))
            .collect();
        let mut expected = Vec::new();
        for variant in ["bare", "few"] {
            for example in ["r0", "r1", "r2"] {
                expected.extend([(variant, example, 0), (variant, example, 1)]);
            }
        }
        assert_eq!(order, expected);
        assert_eq!(stored.metrics[0].variant, "bare");
    }

    #[test]
    fn cells_hold_what_the_scores_say() {
        let run = Run::new();
        let stored = stored_run(&run);
        let first = &stored.cases[0];
        assert_eq!(first.prompt, "Is it good?\n");
        assert_eq!(first.target.as_deref(), Some("yes"));
        assert_eq!(
            (first.loglikelihood, first.n_target_tokens),
            (Some(-1.5), Some(1))
        );
        // -1.5 of the right choice against -2: `acc` is right.
        assert_eq!(
            (first.predicted_choice, first.target_choice),
            (Some(1), Some(1))
        );
        let value = |case: usize, name: &str| {
            let index = stored
                .case_metrics
                .iter()
                .position(|it| it == name)
                .unwrap();
            stored.cases[case].metrics[index]
        };
        assert_eq!(value(0, "acc"), Some(1.0));
        assert_eq!(value(2, "acc"), Some(0.0), "-2.5 against -2");
        assert_eq!(
            (value(0, "exact_match"), value(2, "exact_match")),
            (Some(1.0), Some(0.0))
        );
        assert!(stored.case_metrics.contains(&"sentence_bleu".to_owned()));
        // Later repeats have generations, but no likelihood.
        let second = &stored.cases[1];
        assert_eq!(
            (second.repeat, second.loglikelihood, second.predicted_choice),
            (1, None, None)
        );
        assert_eq!(
            (value(1, "acc"), value(1, "exact_match")),
            (None, Some(1.0))
        );
        assert_eq!(second.finish_reason.as_deref(), Some("length"));
        let failed = stored.cases.last().unwrap();
        assert_eq!(failed.status.as_str(), "context_overflow");
        assert_eq!(
            (failed.generation.as_ref(), failed.n_generated_tokens),
            (None, None)
        );
        let choice = &stored.choices[6];
        assert_eq!(
            (choice.variant.as_str(), choice.choice.as_str()),
            ("few", "nö")
        );
        assert_eq!((choice.n_chars, choice.n_bytes), (2, 3));
        assert_eq!(choice.loglikelihood, f64::NEG_INFINITY);
        let example = &stored.examples[2];
        let own = ("Cluster_".to_owned(), Some("own".to_owned()));
        assert_eq!((example.cluster.as_ref(), &example.fields[1]), (None, &own));
        assert_eq!(
            stored.examples[0].fields[1].1, None,
            "that row has no such field"
        );
        let row = &stored.comparisons[0];
        assert_eq!(
            (row.variant_a.as_str(), row.variant_b.as_str()),
            ("bare", "few")
        );
        assert_eq!(
            (row.difference, row.verdict),
            (Some(-0.25), Some(Verdict::Inconclusive))
        );
        let _: &Manifest = &stored.manifest;
    }

    #[test]
    fn tokens_are_told_by_their_own_model() {
        let run = Run::new();
        let text = |id: u32, model: usize| format!("{id}@{model}");
        let of_run = RunTables {
            with_tokens: Some(&text),
            ..run.tables()
        };
        let tables = tables(&of_run, &run.scores);
        let tokens = tables.iter().find(|it| it.name == TOKENS).unwrap();
        assert_eq!(tokens.n_rows, 12);
        let column = tokens.columns.iter().find(|it| it.name == "token").unwrap();
        let Values::Text(cells) = &column.values else {
            panic!("{column:?}")
        };
        assert_eq!(cells[0].as_deref(), Some("7@0"));
    }
}
