//! `[[metrics]]`: the metrics that must be asked for, and how each looks at a text.

use super::diagnostic::{Diagnostic, Spanned};
use super::fields::{Fields, Keyword, Problems, keyword, suggestion};
use super::metric_name::{MetricName, Requires};
use super::template_text::TemplateText;
use super::value::check_name;

/// One metric that the file asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSpec {
    /// Its column and its name in reports and gates, unique in the file.
    pub name: String,
    /// What is computed.
    pub metric: Spanned<MetricName>,
    /// A pattern; its first group is what is judged instead of the whole generation.
    pub extract: Option<Spanned<String>>,
    /// As written; see [`normalizers`](Self::normalizers) for the default.
    pub normalize: Option<Vec<Normalizer>>,
    /// What only this metric takes.
    pub options: MetricOptions,
}

/// Options that belong to one metric.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricOptions {
    /// The metric has none.
    None,
    /// `contains`: every condition that is given must hold. Without any, the generation must
    /// contain the target.
    Contains {
        /// Must be in it.
        value: Option<TemplateText>,
        /// Each must be in it.
        all: Vec<TemplateText>,
        /// At least one must be in it, if any is given.
        any: Vec<TemplateText>,
        /// None may be in it.
        none: Vec<TemplateText>,
        /// Compare without regard to case.
        ignore_case: bool,
    },
    /// `regex`: somewhere in the generation.
    Regex {
        /// A pattern in the syntax of the crate `regex`.
        pattern: Spanned<String>,
    },
    /// `bleu` and `sentence_bleu`.
    Bleu {
        /// sacrebleu's tokenizer.
        tokenize: BleuTokenizer,
    },
    /// `max_length`.
    MaxLength {
        /// In characters (Unicode scalar values).
        value: usize,
    },
    /// `acc_pmi`.
    AccPmi {
        /// What stands before a choice instead of the prompt; without it, nothing.
        premise: Option<TemplateText>,
    },
}

/// A step that both texts go through before they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalizer {
    /// Unicode normalization form C.
    Nfc,
    /// White space off both ends.
    Trim,
    /// Lower case.
    Lower,
    /// As SQuAD's script: lower case, no punctuation, no articles, single blanks.
    Squad,
}

impl Keyword for Normalizer {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("nfc", Self::Nfc),
        ("trim", Self::Trim),
        ("lower", Self::Lower),
        ("squad", Self::Squad),
    ];
}

/// sacrebleu's tokenizers for BLEU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BleuTokenizer {
    /// `13a`, that of mteval.
    #[default]
    V13a,
    /// `intl`.
    Intl,
    /// `char`.
    Char,
    /// `zh`.
    Zh,
    /// `none`.
    None,
}

impl Keyword for BleuTokenizer {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("13a", Self::V13a),
        ("intl", Self::Intl),
        ("char", Self::Char),
        ("zh", Self::Zh),
        ("none", Self::None),
    ];
}

impl MetricSpec {
    /// The steps before comparing: as written, else `trim`, and nothing for sacrebleu's
    /// metrics, whose numbers must stay sacrebleu's.
    pub fn normalizers(&self) -> &[Normalizer] {
        match &self.normalize {
            Some(written) => written,
            None if self.metric.value.is_sacrebleu() => &[],
            None => &[Normalizer::Trim],
        }
    }

    /// What the file must have for it.
    pub fn requires(&self) -> Requires {
        match &self.options {
            MetricOptions::Contains {
                value,
                all,
                any,
                none,
                ..
            } if value.is_some() || !(all.is_empty() && any.is_empty() && none.is_empty()) => {
                Requires::Generation
            }
            _ => self.metric.value.requires(),
        }
    }
}

/// Columns of the table `cases` that a metric must not be called after.
const TAKEN: [&str; 20] = [
    "experiment",
    "run",
    "model",
    "variant",
    "example_id",
    "repeat",
    "status",
    "prompt",
    "target",
    "n_context_tokens",
    "n_target_tokens",
    "n_target_bytes",
    "boundary_merge",
    "predicted_choice",
    "target_choice",
    "generation",
    "finish_reason",
    "n_generated_tokens",
    "loglikelihood",
    "greedy_match",
];

/// The options that belong to particular metrics, and to which.
const OPTIONS: [(&str, &[MetricName]); 8] = [
    ("value", &[MetricName::Contains, MetricName::MaxLength]),
    ("all", &[MetricName::Contains]),
    ("any", &[MetricName::Contains]),
    ("none", &[MetricName::Contains]),
    ("ignore_case", &[MetricName::Contains]),
    ("pattern", &[MetricName::Regex]),
    ("tokenize", &[MetricName::Bleu, MetricName::SentenceBleu]),
    ("premise", &[MetricName::AccPmi]),
];

/// Reads one `[[metrics]]`, which may ask for several.
pub(super) fn read(fields: Fields<'_>) -> Vec<MetricSpec> {
    let used = fields.required("use", fields.one_or_more("use"), "\"exact_match\"");
    let used = used.unwrap_or_default();
    if used.is_empty()
        && fields.node("use").is_some_and(
            |node| matches!(&node.value, super::tree::Value::Array(items) if items.is_empty()),
        )
    {
        fields.error(
            "use",
            "`use` names no metric",
            "name one, such as `use = \"exact_match\"`",
        );
    }
    let metrics: Vec<Spanned<MetricName>> = used
        .iter()
        .filter_map(|written| metric_name(written, fields.problems))
        .collect();
    let is_complete = metrics.len() == used.len() && !metrics.is_empty();
    let name = name(fields, used.len());
    let extract = pattern(fields, "extract");
    if let Some(extract) = &extract
        && regex::Regex::new(&extract.value).is_ok_and(|it| it.captures_len() < 2)
    {
        let help = "put the part to judge in parentheses: 'Answer: (\\w+)'";
        fields
            .problems
            .error(&extract.place, "`extract` has no group", help);
    }
    let normalize = normalize(fields);
    if is_complete {
        refuse_foreign_options(fields, &metrics);
    }
    let read_one = |metric: &Spanned<MetricName>| {
        Some(MetricSpec {
            name: name
                .clone()
                .unwrap_or_else(|| metric.value.as_str().to_owned()),
            options: options(fields, metric.value)?,
            metric: metric.clone(),
            extract: extract.clone(),
            normalize: normalize.clone(),
        })
    };
    metrics.iter().filter_map(read_one).collect()
}

/// Looks a metric up; the complaint has the closest name.
pub(super) fn metric_name(
    written: &Spanned<String>,
    problems: &Problems,
) -> Option<Spanned<MetricName>> {
    if let Ok(metric) = written.value.parse() {
        return Some(Spanned::new(metric, written.place.clone()));
    }
    let known = MetricName::ALL.map(MetricName::as_str);
    let help = match suggestion(&written.value, &known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the metrics are: {}", known.join(", ")),
    };
    problems.error(
        &written.place,
        format!("there is no metric `{}`", written.value),
        help,
    );
    None
}

/// The metric's own name, for one that is not called after what it computes.
fn name(fields: Fields<'_>, n_used: usize) -> Option<String> {
    let name = fields.string("name")?;
    let (message, help) = if let Err(error) = check_name(&name.value) {
        (
            format!("`name`: {error}"),
            "it becomes a column of the tables".to_owned(),
        )
    } else if 1 < n_used {
        (
            "one `name` for several metrics".to_owned(),
            "write one [[metrics]] for each".to_owned(),
        )
    } else if TAKEN.contains(&name.value.as_str()) {
        let message = format!("`{}` is a column of the tables already", name.value);
        (
            message,
            format!("choose another name, such as `my_{}`", name.value),
        )
    } else {
        return Some(name.value);
    };
    fields.problems.error(&name.place, message, help);
    None
}

/// A string that must be a regular expression.
fn pattern(fields: Fields<'_>, key: &str) -> Option<Spanned<String>> {
    let pattern = fields.string(key)?;
    let Err(error) = regex::Regex::new(&pattern.value) else {
        return Some(pattern);
    };
    // The last line of the crate's message says what is wrong; the rest draws the pattern.
    let message = error.to_string();
    let reason = message
        .lines()
        .last()
        .unwrap_or("")
        .trim_start_matches("error: ");
    let help = "a pattern in '...' needs no doubled backslashes; look-around and back-references do not exist here";
    fields.problems.error(
        &pattern.place,
        format!("`{key}` is not a regular expression: {reason}"),
        help,
    );
    None
}

fn normalize(fields: Fields<'_>) -> Option<Vec<Normalizer>> {
    let words = fields.one_or_more("normalize")?;
    Some(
        words
            .iter()
            .filter_map(|word| keyword(word, "normalize", fields.problems))
            .collect(),
    )
}

/// Reports options that none of the metrics takes.
fn refuse_foreign_options(fields: Fields<'_>, metrics: &[Spanned<MetricName>]) {
    let named = metrics
        .iter()
        .map(|it| format!("`{}`", it.value))
        .collect::<Vec<_>>()
        .join(", ");
    for (key, owners) in OPTIONS {
        if fields.has(key) && !metrics.iter().any(|it| owners.contains(&it.value)) {
            let owners = owners
                .iter()
                .map(|it| format!("`{it}`"))
                .collect::<Vec<_>>()
                .join(" and ");
            let message = format!("`{key}` is not an option of {named}");
            fields.error(
                key,
                message,
                format!("it belongs to {owners}; delete the line"),
            );
        }
    }
    if metrics.iter().any(|it| it.value.is_of_generation()) {
        return;
    }
    for key in ["extract", "normalize", "name"] {
        if fields.has(key) {
            let message = format!("`{key}` is not an option of {named}");
            fields.error(
                key,
                message,
                "it belongs to metrics of the generation; delete the line",
            );
        }
    }
}

/// The options of one metric; `None` if a required one is missing or one is bad.
fn options(fields: Fields<'_>, metric: MetricName) -> Option<MetricOptions> {
    let templates = |key: &str| {
        let texts = fields.strings(key).unwrap_or_default();
        texts
            .into_iter()
            .map(|it| TemplateText {
                text: it.value,
                place: it.place,
            })
            .collect()
    };
    match metric {
        MetricName::Contains => Some(MetricOptions::Contains {
            value: fields.template("value"),
            all: templates("all"),
            any: templates("any"),
            none: templates("none"),
            ignore_case: fields.boolean("ignore_case").unwrap_or(false),
        }),
        MetricName::Regex => {
            let pattern = fields.required("pattern", pattern(fields, "pattern"), "'^\\d+$'");
            Some(MetricOptions::Regex { pattern: pattern? })
        }
        MetricName::Bleu | MetricName::SentenceBleu => {
            let tokenize = fields.keyword("tokenize");
            Some(MetricOptions::Bleu {
                tokenize: tokenize.map_or(BleuTokenizer::default(), |it| it.value),
            })
        }
        MetricName::MaxLength => {
            let value = fields.required("value", fields.count("value", 0), "200");
            Some(MetricOptions::MaxLength {
                value: value?.value,
            })
        }
        MetricName::AccPmi => Some(MetricOptions::AccPmi {
            premise: fields.template("premise"),
        }),
        _ => Some(MetricOptions::None),
    }
}

/// Reports names that are used twice or that belong to another metric.
pub(super) fn check_names(metrics: &[MetricSpec], problems: &Problems) {
    for (index, spec) in metrics.iter().enumerate() {
        let own = spec.metric.value;
        if let Some(first) = metrics[..index].iter().find(|it| it.name == spec.name) {
            problems.push(
                Diagnostic::error(format!("two metrics are called `{}`", spec.name))
                    .at(&spec.metric.place, "again here")
                    .at(&first.metric.place, "first here")
                    .help("delete one, or give it a `name` of its own"),
            );
        } else if spec
            .name
            .parse::<MetricName>()
            .is_ok_and(|other| other != own)
        {
            let message = format!(
                "`{own}` is called `{}`, which is the name of another metric",
                spec.name
            );
            problems.error(&spec.metric.place, message, "choose another `name`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, message_with, spec};

    fn text(metrics: &str) -> String {
        format!("[generation]\nmax_tokens = 1\n{metrics}")
    }

    fn metric(rest: &str) -> MetricSpec {
        spec(&text(&format!("[[metrics]]\n{rest}\n"))).metrics[0].clone()
    }

    #[test]
    fn a_list_asks_for_several_metrics() {
        let metrics = spec(&text(
            "[[metrics]]\nuse = ['exact_match', 'bleu']\nnormalize = ['lower']\n",
        ))
        .metrics;
        let names: Vec<&str> = metrics.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["exact_match", "bleu"]);
        assert!(
            metrics
                .iter()
                .all(|it| it.normalizers() == [Normalizer::Lower])
        );
        assert_eq!(
            metrics[1].options,
            MetricOptions::Bleu {
                tokenize: BleuTokenizer::V13a
            }
        );
    }

    /// sacrebleu's numbers are sacrebleu's only if nothing is done to the text first.
    #[test]
    fn only_metrics_of_our_own_trim_by_default() {
        assert_eq!(
            metric("use = 'exact_match'").normalizers(),
            [Normalizer::Trim]
        );
        assert_eq!(metric("use = 'chrf++'").normalizers(), []);
        assert_eq!(
            metric("use = 'exact_match'\nnormalize = []").normalizers(),
            []
        );
        let all = metric("use = 'f1'\nnormalize = ['nfc', 'squad']").normalize;
        assert_eq!(all, Some(vec![Normalizer::Nfc, Normalizer::Squad]));
    }

    #[test]
    fn options_reach_the_metric() {
        assert_eq!(
            metric("use = 'max_length'\nvalue = 9").options,
            MetricOptions::MaxLength { value: 9 }
        );
        assert_eq!(metric("use = 'f1'").options, MetricOptions::None);
        assert_eq!(
            metric("use = 'f1'").requires(),
            Requires::GenerationAndTarget
        );
        let contains = metric("use = 'contains'\nnone = ['x']\nignore_case = true");
        assert_eq!(contains.requires(), Requires::Generation);
        let MetricOptions::Contains {
            value,
            none,
            ignore_case,
            ..
        } = contains.options
        else {
            panic!("options of contains");
        };
        assert_eq!((value, none.len(), ignore_case), (None, 1, true));
        let extract = metric("use = 'f1'\nname = 'answer'\nextract = 'A: (.*)'");
        assert_eq!(
            (
                extract.name.as_str(),
                extract.extract.unwrap().value.as_str()
            ),
            ("answer", "A: (.*)")
        );
    }

    #[test]
    fn a_metric_parses_or_says_why_not() {
        let table = [
            ("", "`[[metrics]]` has no `use`"),
            ("use = 'blue'", "there is no metric `blue`"),
            ("use = []", "`use` names no metric"),
            ("use = ['f1', 'bluer']", "there is no metric `bluer`"),
            (
                "use = 'f1'\npattern = 'x'",
                "`pattern` is not an option of `f1`",
            ),
            ("use = ['f1', 'bleu']\ntokenize = 'zh'", ""),
            (
                "use = 'bleu'\ntokenize = 'mecab'",
                "`mecab` is not a value of `tokenize`",
            ),
            (
                "use = 'loglikelihood'\nnormalize = ['trim']",
                "`normalize` is not an option of `loglikelihood`",
            ),
            ("use = 'loglikelihood'", ""),
            ("use = 'regex'", "`[[metrics]]` has no `pattern`"),
            (
                "use = 'regex'\npattern = '('",
                "`pattern` is not a regular expression: unclosed group",
            ),
            (
                "use = 'regex'\npattern = '(?=a)'",
                "`pattern` is not a regular expression: look-around, including look-ahead and look-behind, is not supported",
            ),
            ("use = 'f1'\nextract = 'a'", "`extract` has no group"),
            ("use = 'max_length'", "`[[metrics]]` has no `value`"),
            (
                "use = 'max_length'\nvalue = -1",
                "expected a whole number from 0 up for `value`, got -1",
            ),
            (
                "use = 'contains'\nvalue = 1",
                "expected a string for `value`, got 1",
            ),
            (
                "use = 'f1'\nnormalize = ['upper']",
                "`upper` is not a value of `normalize`",
            ),
            (
                "use = ['f1', 'bleu']\nname = 'x'",
                "one `name` for several metrics",
            ),
            (
                "use = 'f1'\nname = 'a b'",
                "`name`: `a b` is not a plain name",
            ),
            (
                "use = 'f1'\nname = 'prompt'",
                "`prompt` is a column of the tables already",
            ),
            (
                "use = 'f1'\nname = 'acc'",
                "`f1` is called `acc`, which is the name of another metric",
            ),
            (
                "use = 'f1'\n[[metrics]]\nuse = 'f1'",
                "two metrics are called `f1`",
            ),
            ("use = 'f1'\n[[metrics]]\nuse = 'f1'\nname = 'g1'", ""),
        ];
        for (rest, expected) in table {
            assert_eq!(
                message(&text(&format!("[[metrics]]\n{rest}\n"))),
                expected,
                "{rest}"
            );
        }
        assert_eq!(
            message_with("", &[("metrics", "1")]),
            "expected tables `[[metrics]]`, got a whole number"
        );
    }
}
