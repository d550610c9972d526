//! Dataset and few-shot pool: read, named, filtered, limited, checked against each other.

use crate::dataset::{self, Dataset, DatasetErrors, Example, Order};
use crate::experiment::{Diagnostic, Diagnostics, Experiment, Label, LimitOrder, Spanned};
use crate::template::Filter;

use super::files;
use super::template_check;

/// How many rows a message lists.
const SHOWN_ROWS: usize = 10;

/// The examples of an experiment and the pool its shots come from.
#[derive(Debug)]
pub(super) struct Data {
    pub dataset: Dataset,
    pub examples: Vec<Example>,
    pub pool: Option<Dataset>,
}

/// Reads what the experiment names; every problem goes to `problems`.
///
/// `None` only if the dataset itself could not be read.
pub(super) fn read(experiment: &Experiment, problems: &mut Diagnostics) -> Option<Data> {
    let spec = &experiment.spec;
    let pool = spec
        .fewshot
        .as_ref()
        .and_then(|it| read_file(experiment, &it.path, "few-shot pool", problems));
    let dataset = read_file(experiment, &spec.dataset.path, "dataset", problems)?;
    let id = spec.dataset.id.as_ref().map(|it| it.value.as_str());
    let cluster = spec.dataset.cluster.as_ref().map(|it| it.value.as_str());
    let named = dataset::examples(&dataset, id, cluster);
    let examples = match named {
        Ok(examples) => select(experiment, &dataset, examples, problems),
        Err(err) => {
            let place = spec.dataset.id.as_ref().or(spec.dataset.cluster.as_ref());
            let mut diagnostic = Diagnostic::error(err.to_string());
            if let Some(place) = place {
                diagnostic = diagnostic.at(&place.place, "");
            }
            if let Some(hint) = err.hint() {
                diagnostic = diagnostic.help(hint);
            }
            problems.push(diagnostic);
            Vec::new()
        }
    };
    if let Some(pool) = &pool {
        refuse_overlap(experiment, &dataset, pool, problems);
    }
    Some(Data {
        dataset,
        examples,
        pool,
    })
}

fn read_file(
    experiment: &Experiment,
    written: &Spanned<std::path::PathBuf>,
    what: &str,
    problems: &mut Diagnostics,
) -> Option<Dataset> {
    let path = match files::resolve(experiment, written, what) {
        Ok(path) => path,
        Err(diagnostic) => {
            problems.push(diagnostic);
            return None;
        }
    };
    match dataset::read(&path) {
        Ok(dataset) => Some(dataset),
        Err(errors) => {
            push_dataset_errors(&errors, written, problems);
            None
        }
    }
}

fn push_dataset_errors(
    errors: &DatasetErrors,
    written: &Spanned<std::path::PathBuf>,
    problems: &mut Diagnostics,
) {
    for error in &errors.errors {
        let place = match (error.line, error.byte) {
            (Some(line), Some(byte)) => format!("{}:{line} (byte {byte})", errors.path.display()),
            (Some(line), None) => format!("{}:{line}", errors.path.display()),
            _ => errors.path.display().to_string(),
        };
        let mut diagnostic =
            Diagnostic::error(format!("{place}: {}", error.fault)).at(&written.place, "named here");
        if let Some(hint) = error.fault.hint() {
            diagnostic = diagnostic.help(hint);
        }
        problems.push(diagnostic);
    }
}

/// `line 3`, or `lines 3, 4`; at most the first ten.
pub(super) fn shown_lines(lines: &[usize]) -> String {
    let shown: Vec<String> = lines
        .iter()
        .take(SHOWN_ROWS)
        .map(ToString::to_string)
        .collect();
    let many = if lines.len() == 1 { "" } else { "s" };
    let more = if SHOWN_ROWS < lines.len() {
        ", ..."
    } else {
        ""
    };
    format!("line{many} {}{more}", shown.join(", "))
}

/// Filters and limits the examples.
fn select(
    experiment: &Experiment,
    dataset: &Dataset,
    mut examples: Vec<Example>,
    problems: &mut Diagnostics,
) -> Vec<Example> {
    let spec = &experiment.spec.dataset;
    if let Some(text) = &spec.filter {
        match Filter::compile(&text.text) {
            Err(err) => {
                let mut diagnostic = template_check::error(text, &err);
                if err.hint.is_none() {
                    diagnostic =
                        diagnostic.help("a filter is a condition, such as `domain == 'ui'`");
                }
                problems.push(diagnostic);
                return Vec::new();
            }
            Ok(filter) => {
                let before = problems.len();
                template_check::fields(text, filter.fields(), dataset, &[], problems);
                if before < problems.len() {
                    return Vec::new();
                }
                let mut first_error = None;
                examples.retain(|it| match filter.keeps(&it.row(dataset).fields()) {
                    Ok(keeps) => keeps,
                    Err(err) => {
                        first_error.get_or_insert((it.row(dataset).source_line, err));
                        false
                    }
                });
                if let Some((line, err)) = first_error {
                    let mut diagnostic = template_check::error(text, &err);
                    diagnostic.message = format!(
                        "the filter fails on line {line} of `{}`: {}",
                        dataset.path.display(),
                        diagnostic.message
                    );
                    problems.push(diagnostic);
                    return Vec::new();
                }
                if examples.is_empty() {
                    problems.push(
                        Diagnostic::error("the filter leaves no example")
                            .at(&text.place, "true for none of the rows")
                            .help("nothing can be measured on 0 examples; loosen the filter"),
                    );
                }
            }
        }
    }
    match spec.limit {
        None => examples,
        Some(limit) => {
            let order = match spec.limit_order {
                LimitOrder::Random => Order::Random,
                LimitOrder::First => Order::First,
            };
            dataset::limit(
                examples,
                limit.get(),
                order,
                experiment.spec.experiment.seed,
            )
        }
    }
}

fn refuse_overlap(
    experiment: &Experiment,
    dataset: &Dataset,
    pool: &Dataset,
    problems: &mut Diagnostics,
) {
    let spec = &experiment.spec;
    let ignored: Vec<&str> = [&spec.dataset.id, &spec.dataset.cluster]
        .into_iter()
        .flatten()
        .map(|it| it.value.as_str())
        .chain(["id"])
        .collect();
    let shared = dataset::overlap(dataset, pool, &ignored);
    let Some(first) = shared.first() else { return };
    let lines: Vec<usize> = shared.iter().map(|it| it.line).collect();
    let pool_lines: Vec<usize> = shared.iter().map(|it| it.pool_line).collect();
    let stand = match shared.len() {
        1 => "1 row of the dataset stands".to_owned(),
        n => format!("{n} rows of the dataset stand"),
    };
    let row = serde_json::Value::Object(dataset.rows[first.row_index].fields()).to_string();
    let place = &spec
        .fewshot
        .as_ref()
        .map_or(&spec.dataset.path, |it| &it.path)
        .place;
    problems.push(
        Diagnostic::error(format!(
            "{stand} in the few-shot pool too: {}, in the pool {}",
            shown_lines(&lines),
            shown_lines(&pool_lines)
        ))
        .at(place, "the pool")
        .label(Label::line(
            dataset.path.display().to_string(),
            first.line,
            &row,
            format!("also line {} of the pool", first.pool_line),
        ))
        .help(
            "a model that is shown the answer is not being tested; remove the rows from one file",
        ),
    );
}
