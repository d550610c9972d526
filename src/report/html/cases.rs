//! Examples, cases, choices and tokens as columns: short, and quick to read.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::score::Status;
use crate::table::{StoredCase, StoredChoice, StoredRun, StoredToken};

use super::super::InputError;
use super::texts::{Number, Texts, shared_start};

/// Where the value of a single case is found, for a metric of the whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum CaseValue {
    /// A column of per-case metrics, which may be another metric's: `sentence_bleu` for `bleu`.
    Column {
        /// Its place in the list of per-case metrics.
        index: usize,
        /// The mean over all repeats; else the first has the value of all.
        is_of_all_repeats: bool,
        /// Every value is 0 or 1, so that an example can flip.
        is_right_or_wrong: bool,
    },
    /// Made of the log-likelihood of the target.
    Likelihood {
        /// What it is divided by: `none`, `tokens` or `bytes`.
        per: &'static str,
        /// Turned to bits of surprise.
        is_bits: bool,
    },
    /// Whether every scored token was the most likely one.
    GreedyMatch,
}

impl CaseValue {
    /// The source for the metric of that name; `None` where a case has no value of its own.
    pub(super) fn of(metric: &str, run: &StoredRun) -> Option<Self> {
        let likelihood = |per, is_bits| Some(Self::Likelihood { per, is_bits });
        match metric {
            "loglikelihood" => return likelihood("none", false),
            "loglikelihood_per_token" => return likelihood("tokens", false),
            "loglikelihood_per_byte" => return likelihood("bytes", false),
            "bits_per_byte" => return likelihood("bytes", true),
            "greedy_match" => return Some(Self::GreedyMatch),
            _ => {}
        }
        let place = |name: &str| run.case_metrics.iter().position(|it| it == name);
        let index = place(metric).or_else(|| place(&format!("sentence_{metric}")))?;
        let values = || run.cases.iter().map(|it| (it.repeat, it.metrics[index]));
        let is_of_all_repeats = values().any(|it| 0 < it.0 && it.1.is_some());
        let is_0_or_1 = || {
            values()
                .filter_map(|it| it.1)
                .all(|it| it == 0.0 || it == 1.0)
        };
        Some(Self::Column {
            index,
            is_of_all_repeats,
            // A mean of several draws lies anywhere between.
            is_right_or_wrong: !is_of_all_repeats && is_0_or_1(),
        })
    }
}

/// Names of a run to indices.
pub(super) struct Places<'a> {
    run: &'a str,
    models: HashMap<&'a str, usize>,
    variants: HashMap<&'a str, usize>,
    examples: HashMap<&'a str, usize>,
}

impl<'a> Places<'a> {
    /// Those of `run`.
    pub(super) fn new(run: &'a StoredRun) -> Self {
        fn indices<'b>(names: impl Iterator<Item = &'b String>) -> HashMap<&'b str, usize> {
            names.enumerate().map(|(i, it)| (it.as_str(), i)).collect()
        }
        Self {
            run: &run.manifest.run,
            models: indices(run.manifest.models.iter().map(|it| &it.name)),
            variants: indices(run.manifest.variants.iter().map(|it| &it.name)),
            examples: indices(run.examples.iter().map(|it| &it.id)),
        }
    }

    fn of(&self, model: &str, variant: &str, example: &str) -> Result<[usize; 3], InputError> {
        let find = |what, names: &HashMap<&str, usize>, name: &str| {
            names.get(name).copied().ok_or_else(|| InputError::Unknown {
                run: self.run.to_owned(),
                what,
                name: name.to_owned(),
            })
        };
        Ok([
            find("model", &self.models, model)?,
            find("variant", &self.variants, variant)?,
            find("example", &self.examples, example)?,
        ])
    }
}

/// One example; texts by number.
#[derive(Serialize)]
pub(super) struct ExampleData<'a> {
    id: &'a str,
    row_digest: &'a str,
    line: usize,
    cluster: Option<&'a str>,
    fields: Vec<(usize, usize)>,
}

/// The examples of a run, in plan order.
pub(super) fn examples<'a>(run: &'a StoredRun, texts: &mut Texts<'a>) -> Vec<ExampleData<'a>> {
    let example = |it: &'a crate::table::StoredExample| ExampleData {
        id: &it.id,
        row_digest: &it.row_digest,
        line: it.source_line,
        cluster: it.cluster.as_deref(),
        fields: it
            .fields
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .map(|(name, value)| (texts.number(name), texts.number(value)))
            .collect(),
    };
    run.examples.iter().map(example).collect()
}

/// All cases, column by column; texts by number.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cases {
    /// Names of statuses, to which `status` points.
    statuses: Vec<&'static str>,
    /// What all prompts of a model and variant start with: model, variant, text.
    prompt_starts: Vec<(usize, usize, usize)>,
    model: Vec<usize>,
    variant: Vec<usize>,
    example: Vec<usize>,
    repeat: Vec<usize>,
    status: Vec<usize>,
    /// What follows the shared start.
    prompt: Vec<usize>,
    target: Vec<Option<usize>>,
    n_context_tokens: Vec<usize>,
    n_target_tokens: Vec<Option<usize>>,
    n_target_bytes: Vec<Option<usize>>,
    loglikelihood: Vec<Option<Number>>,
    greedy_match: Vec<Option<u8>>,
    boundary_merge: Vec<Option<u8>>,
    predicted_choice: Vec<Option<usize>>,
    target_choice: Vec<Option<usize>>,
    generation: Vec<Option<usize>>,
    finish_reason: Vec<Option<usize>>,
    n_generated_tokens: Vec<Option<usize>>,
    /// One list per per-case metric.
    metrics: Vec<Vec<Option<Number>>>,
    /// For each case its choices: text, loglikelihood, scored tokens.
    choices: Vec<Vec<(usize, Number, usize)>>,
}

/// The cases of a run.
pub(super) fn cases<'a>(
    run: &'a StoredRun,
    places: &Places<'_>,
    texts: &mut Texts<'a>,
) -> Result<Cases, InputError> {
    let mut columns = Cases {
        statuses: Status::ALL.map(Status::as_str).to_vec(),
        metrics: vec![Vec::with_capacity(run.cases.len()); run.case_metrics.len()],
        ..Cases::default()
    };
    let starts = prompt_starts(run);
    for ((model, variant), n_bytes) in &starts {
        let of_cell =
            |it: &&StoredCase| (it.model.as_str(), it.variant.as_str()) == (*model, *variant);
        if let Some(case) = run.cases.iter().find(of_cell) {
            let [model, variant, _] = places.of(model, variant, &case.example_id)?;
            let text = texts.number(&case.prompt[..*n_bytes]);
            columns.prompt_starts.push((model, variant, text));
        }
    }
    columns.prompt_starts.sort_unstable();
    let choices = choices(run);
    for case in &run.cases {
        let [model, variant, example] = places.of(&case.model, &case.variant, &case.example_id)?;
        columns.model.push(model);
        columns.variant.push(variant);
        columns.example.push(example);
        let start = starts[&(case.model.as_str(), case.variant.as_str())];
        columns.push(case, start, texts);
        let key = (
            case.model.as_str(),
            case.variant.as_str(),
            case.example_id.as_str(),
        );
        let own = choices.get(&key).filter(|_| case.repeat == 0);
        let own = own.into_iter().flat_map(|it| it.iter());
        let choice = |it: &&'a StoredChoice| {
            let text = texts.number(&it.choice);
            (text, Number(it.loglikelihood), it.n_tokens)
        };
        columns.choices.push(own.map(choice).collect());
    }
    Ok(columns)
}

impl Cases {
    fn push<'a>(&mut self, case: &'a StoredCase, n_shared: usize, texts: &mut Texts<'a>) {
        let mut maybe = |it: &'a Option<String>| it.as_deref().map(|it| texts.number(it));
        self.target.push(maybe(&case.target));
        self.generation.push(maybe(&case.generation));
        self.finish_reason.push(maybe(&case.finish_reason));
        self.prompt.push(texts.number(&case.prompt[n_shared..]));
        let status = Status::ALL.iter().position(|it| *it == case.status);
        self.status.push(status.unwrap_or_default());
        self.repeat.push(case.repeat);
        self.n_context_tokens.push(case.n_context_tokens);
        self.n_target_tokens.push(case.n_target_tokens);
        self.n_target_bytes.push(case.n_target_bytes);
        self.loglikelihood.push(case.loglikelihood.map(Number));
        self.greedy_match.push(case.greedy_match.map(u8::from));
        self.boundary_merge.push(case.boundary_merge.map(u8::from));
        self.predicted_choice.push(case.predicted_choice);
        self.target_choice.push(case.target_choice);
        self.n_generated_tokens.push(case.n_generated_tokens);
        for (column, value) in self.metrics.iter_mut().zip(&case.metrics) {
            column.push(value.map(Number));
        }
    }
}

/// Bytes that all prompts of a model and variant share, by their names, in a fixed order.
fn prompt_starts(run: &StoredRun) -> BTreeMap<(&str, &str), usize> {
    let mut prompts: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for case in &run.cases {
        let key = (case.model.as_str(), case.variant.as_str());
        prompts.entry(key).or_default().push(&case.prompt);
    }
    prompts
        .into_iter()
        .map(|(key, it)| (key, shared_start(it.into_iter())))
        .collect()
}

/// The choices of every model, variant and example, in their own order.
fn choices(run: &StoredRun) -> HashMap<(&str, &str, &str), Vec<&StoredChoice>> {
    let mut choices: HashMap<(&str, &str, &str), Vec<&StoredChoice>> = HashMap::new();
    for it in &run.choices {
        let key = (
            it.model.as_str(),
            it.variant.as_str(),
            it.example_id.as_str(),
        );
        choices.entry(key).or_default().push(it);
    }
    for list in choices.values_mut() {
        list.sort_by_key(|it| it.choice_index);
    }
    choices
}

/// All scored tokens; one entry of the first columns per scored text, of the others per token.
#[derive(Debug, Default, Serialize)]
pub(super) struct TokenData {
    model: Vec<usize>,
    variant: Vec<usize>,
    example: Vec<usize>,
    choice: Vec<Option<usize>>,
    n_tokens: Vec<usize>,
    id: Vec<usize>,
    token: Vec<usize>,
    logprob: Vec<Logprob>,
    is_argmax: Vec<u8>,
}

/// A logprob: stored as f64, but never more exact than the f32 that it was, which is shorter.
#[derive(Debug, Clone, Copy)]
struct Logprob(f64);

impl Serialize for Logprob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let short = self.0 as f32;
        if short.is_finite() && f64::from(short) == self.0 {
            serializer.serialize_f32(short)
        } else {
            Number(self.0).serialize(serializer)
        }
    }
}

/// The tokens of a run, whose rows stand text by text in order of position.
pub(super) fn tokens<'a>(
    rows: &'a [StoredToken],
    places: &Places<'_>,
    texts: &mut Texts<'a>,
) -> Result<TokenData, InputError> {
    fn key(it: &StoredToken) -> (&str, &str, &str, Option<usize>) {
        (&it.model, &it.variant, &it.example_id, it.choice_index)
    }
    let mut columns = TokenData::default();
    // A position that does not grow starts the next text, whatever its names.
    let of_one_text =
        |a: &StoredToken, b: &StoredToken| key(a) == key(b) && a.position < b.position;
    for text in rows.chunk_by(of_one_text) {
        let first = &text[0];
        let [model, variant, example] =
            places.of(&first.model, &first.variant, &first.example_id)?;
        columns.model.push(model);
        columns.variant.push(variant);
        columns.example.push(example);
        columns.choice.push(first.choice_index);
        columns.n_tokens.push(text.len());
        for token in text {
            columns.id.push(token.token_id);
            columns.token.push(texts.number(&token.token));
            columns.logprob.push(Logprob(token.logprob));
            columns.is_argmax.push(u8::from(token.is_argmax));
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_metric_of_the_corpus_shows_the_sentences_value() {
        let mut run = fixture::sentiment();
        run.case_metrics = vec!["acc".to_owned(), "sentence_bleu".to_owned()];
        let column = |index, is_right_or_wrong| CaseValue::Column {
            index,
            is_of_all_repeats: false,
            is_right_or_wrong,
        };
        run.cases[0].metrics[1] = Some(12.5);
        assert_eq!(CaseValue::of("acc", &run), Some(column(0, true)));
        assert_eq!(CaseValue::of("bleu", &run), Some(column(1, false)));
        assert_eq!(CaseValue::of("perplexity", &run), None);
        run.cases[1].repeat = 1;
        let Some(CaseValue::Column {
            is_of_all_repeats, ..
        }) = CaseValue::of("acc", &run)
        else {
            panic!("no column");
        };
        assert!(is_of_all_repeats);
    }

    #[test]
    fn prompts_are_put_together_again_from_their_shared_start() {
        let run = fixture::sentiment();
        let mut texts = Texts::default();
        let columns = cases(&run, &Places::new(&run), &mut texts).unwrap();
        let texts = texts.into_list();
        assert_eq!(texts[columns.prompt_starts[0].2], "Review ");
        for (i, case) in run.cases.iter().enumerate() {
            let of_cell = |it: &&(usize, usize, usize)| {
                (it.0, it.1) == (columns.model[i], columns.variant[i])
            };
            let start = columns.prompt_starts.iter().find(of_cell).unwrap();
            let prompt = [texts[start.2], texts[columns.prompt[i]]].concat();
            assert_eq!(prompt, case.prompt);
        }
    }

    #[test]
    fn an_example_that_the_tables_do_not_have_is_named() {
        let mut run = fixture::sentiment();
        run.cases[0].example_id = "other".to_owned();
        let error = cases(&run, &Places::new(&run), &mut Texts::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "run `20260101-120000-abcd` contradicts itself: its manifest has no example `other`"
        );
    }

    /// 0.1 as f32 has the f64 0.10000000149011612, but reads back from `0.1`.
    #[test]
    fn a_logprob_is_as_short_as_its_f32() {
        let json = |it: f64| serde_json::to_string(&Logprob(it)).unwrap();
        assert_eq!(json(f64::from(-0.1_f32)), "-0.1");
        assert_eq!(json(-1.0 / 3.0), "-0.3333333333333333");
        assert_eq!(json(f64::NEG_INFINITY), "\"-inf\"");
    }
}
