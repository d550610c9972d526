//! `[dataset]` and `[fewshot]`: where the examples are and what in them is the answer.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::diagnostic::Spanned;
use super::fields::{Fields, Keyword};
use super::template_text::TemplateText;
use super::tree::{Node, Value};

/// File name endings that a dataset may have.
const ENDINGS: [&str; 4] = ["jsonl", "csv", "tsv", "parquet"];

/// The labelled examples.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetSpec {
    /// The file, relative to the experiment's folder.
    pub path: Spanned<PathBuf>,
    /// The labelled output of an example.
    pub target: Option<TemplateText>,
    /// The candidate answers of an example.
    pub choices: Option<Choices>,
    /// The field that identifies an example; without it, the digest of the example does.
    pub id: Option<Spanned<String>>,
    /// An expression; examples for which it is false are left out.
    pub filter: Option<TemplateText>,
    /// The field whose equal values make examples one unit.
    pub cluster: Option<Spanned<String>>,
    /// How many examples are kept.
    pub limit: Option<NonZeroUsize>,
    /// Which ones are kept.
    pub limit_order: LimitOrder,
}

/// How the choices of an example are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Choices {
    /// One template per choice, two or more.
    Listed(Vec<TemplateText>),
    /// One expression that gives a list.
    Expression(TemplateText),
}

/// Which examples a limit keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitOrder {
    /// A fixed random subset, nested in every larger one.
    #[default]
    Random,
    /// The first ones of the file.
    First,
}

impl Keyword for LimitOrder {
    const WORDS: &'static [(&'static str, Self)] =
        &[("random", Self::Random), ("first", Self::First)];
}

/// The solved examples that shots are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct FewshotSpec {
    /// The file, relative to the experiment's folder.
    pub path: Spanned<PathBuf>,
    /// How shots are drawn.
    pub order: ShotOrder,
}

/// How shots are drawn from the few-shot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShotOrder {
    /// One seeded draw per variant, shared by all examples.
    #[default]
    Fixed,
    /// A seeded draw for every example.
    PerExample,
    /// The first ones of the file.
    First,
}

impl Keyword for ShotOrder {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("fixed", Self::Fixed),
        ("per-example", Self::PerExample),
        ("first", Self::First),
    ];
}

/// Reads `[dataset]`.
pub(super) fn read(fields: Fields<'_>) -> Option<DatasetSpec> {
    let path = data_path(fields);
    let target = fields.template("target");
    let choices = choices(fields);
    let id = field_name(fields, "id");
    let filter = fields.template("filter");
    let cluster = field_name(fields, "cluster");
    let limit = fields.count::<usize>("limit", 1);
    let limit_order = fields.keyword("limit_order");
    if fields.has("choices") && !fields.has("target") {
        fields.error(
            "choices",
            "`choices` without `target`: nothing says which choice is right",
            "add `target = \"{{ field }}\"`, whose value is one of the choices",
        );
    }
    if fields.has("limit_order") && !fields.has("limit") {
        fields.error(
            "limit_order",
            "`limit_order` without `limit` does nothing",
            "add `limit = 200` or delete the line",
        );
    }
    Some(DatasetSpec {
        path: path?,
        target,
        choices,
        id,
        filter,
        cluster,
        limit: limit.and_then(|it| NonZeroUsize::new(it.value)),
        limit_order: limit_order.map_or(LimitOrder::default(), |it| it.value),
    })
}

/// Reads `[fewshot]`.
pub(super) fn read_fewshot(fields: Fields<'_>) -> Option<FewshotSpec> {
    let path = data_path(fields);
    let order = fields.keyword("order");
    Some(FewshotSpec {
        path: path?,
        order: order.map_or(ShotOrder::default(), |it| it.value),
    })
}

/// The key `path`, whose ending says how the file is read.
fn data_path(fields: Fields<'_>) -> Option<Spanned<PathBuf>> {
    let path = fields.required("path", fields.path("path"), "\"data/en-fr.jsonl\"")?;
    let ending = Path::new(&path.value)
        .extension()
        .and_then(|it| it.to_str())
        .unwrap_or("");
    if !ENDINGS.contains(&ending.to_ascii_lowercase().as_str()) {
        let message = format!(
            "`{}` is not a file that can be read as examples",
            path.value.display()
        );
        fields.problems.error(
            &path.place,
            message,
            "the name must end in .jsonl, .csv, .tsv or .parquet",
        );
        return None;
    }
    Some(path)
}

/// A key that holds the name of a field, not a template.
fn field_name(fields: Fields<'_>, key: &str) -> Option<Spanned<String>> {
    let name = fields.string(key)?;
    let problem = if name.value.is_empty() {
        format!("`{key}` is empty")
    } else if name.value.contains("{{") {
        format!("`{key}` is a template, but takes the name of a field")
    } else {
        return Some(name);
    };
    fields.problems.error(
        &name.place,
        problem,
        format!("write the name alone: `{key} = \"page\"`"),
    );
    None
}

fn choices(fields: Fields<'_>) -> Option<Choices> {
    let node = fields.node("choices")?;
    match &node.value {
        Value::Array(_) => listed(fields, node),
        Value::String(text) if text.contains("{{") => {
            fields.template("choices").map(Choices::Expression)
        }
        _ => {
            fields.problems.error(
                &node.place,
                "`choices` is neither a list nor an expression",
                "write `choices = [\"negative\", \"positive\"]`, or `choices = \"{{ field }}\"` for a list field",
            );
            None
        }
    }
}

fn listed(fields: Fields<'_>, node: &Node) -> Option<Choices> {
    let written = fields.strings("choices")?;
    if written.len() < 2 {
        let message = format!("`choices` has {} of the 2 or more it needs", written.len());
        fields
            .problems
            .error(&node.place, message, "list every candidate answer");
    }
    for (index, choice) in written.iter().enumerate() {
        if written[..index].contains(choice) {
            let message = format!("the choice {:?} is listed twice", choice.value);
            fields
                .problems
                .error(&choice.place, message, "delete one of them");
        }
        if choice.value.is_empty() {
            fields.problems.error(
                &choice.place,
                "a choice is empty",
                "an empty answer has no tokens to score",
            );
        }
    }
    let template = |choice: Spanned<String>| TemplateText {
        text: choice.value,
        place: choice.place,
    };
    Some(Choices::Listed(written.into_iter().map(template).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, spec};

    #[test]
    fn choices_are_a_list_or_an_expression() {
        let choices = |text: &str| {
            spec(&format!(
                "[dataset]\npath = 'd.csv'\ntarget = 't'\nchoices = {text}\n"
            ))
            .dataset
            .choices
            .unwrap()
        };
        let Choices::Listed(listed) = choices("['no', 'yes']") else {
            panic!("a list")
        };
        assert_eq!(
            listed.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(),
            ["no", "yes"]
        );
        let Choices::Expression(expression) = choices("'{{ options }}'") else {
            panic!("an expression")
        };
        assert_eq!(expression.text, "{{ options }}");
    }

    #[test]
    fn a_dataset_parses_or_says_why_not() {
        let table = [
            ("path = 'D.CSV'\ntarget = 't'", ""),
            (
                "path = 'data'\ntarget = 't'",
                "`data` is not a file that can be read as examples",
            ),
            ("path = ''\ntarget = 't'", "`path` is empty"),
            ("target = 't'", "`[dataset]` has no `path`"),
            (
                "path = 'd.csv'\ntarget = 't'\nchoices = ['a']",
                "`choices` has 1 of the 2 or more it needs",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nchoices = ['a', 'a']",
                "the choice \"a\" is listed twice",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nchoices = ['a', '']",
                "a choice is empty",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nchoices = ['a', 'b', 1]",
                "expected a list of strings for `choices`, got 1 in it",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nchoices = 'a, b'",
                "`choices` is neither a list nor an expression",
            ),
            (
                "path = 'd.csv'\nchoices = ['a', 'b']",
                "`choices` without `target`: nothing says which choice is right",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nid = '{{ id }}'",
                "`id` is a template, but takes the name of a field",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\ncluster = ''",
                "`cluster` is empty",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nlimit = 0",
                "expected a whole number from 1 up for `limit`, got 0",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nlimit_order = 'first'",
                "`limit_order` without `limit` does nothing",
            ),
            (
                "path = 'd.csv'\ntarget = 't'\nlimit = 5\nlimit_order = 'first'",
                "",
            ),
            (
                "path = 'd.csv'\ntarget = ['a']",
                "expected a string for `target`, got a list",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(message(&format!("[dataset]\n{rest}\n")), expected, "{rest}");
        }
        assert_eq!(
            message("[fewshot]\npath = 'f.csv'\norder = 'random'\n"),
            "`random` is not a value of `order`"
        );
    }

    #[test]
    fn a_limit_keeps_a_random_subset_by_default() {
        let dataset = spec("[dataset]\npath = 'd.csv'\ntarget = 't'\nlimit = 5\n").dataset;
        assert_eq!(
            (dataset.limit.map(NonZeroUsize::get), dataset.limit_order),
            (Some(5), LimitOrder::Random)
        );
        let fewshot = spec("[fewshot]\npath = 'f.csv'\n").fewshot.unwrap();
        assert_eq!(fewshot.order, ShotOrder::Fixed);
    }
}
