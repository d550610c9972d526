//! `[scoring]` and `[generation]`: how targets are joined to prompts, how text is drawn.

use std::num::NonZeroU32;

use super::diagnostic::Spanned;
use super::fields::{Fields, Keyword};
use super::value::{Finite, NonNegative, Probability};

/// How a prompt and its target become one text to score.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoringSpec {
    /// What stands between them, taken literally; `None` for the default, which depends on
    /// the prompt.
    pub delimiter: Option<String>,
    /// What happens to a text that is longer than the model's context.
    pub overflow: Overflow,
}

/// What happens to a text that is longer than the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The case has no score.
    #[default]
    Error,
    /// Shots are left out, last drawn first.
    DropShots,
    /// The beginning of the prompt is cut.
    TruncateLeft,
}

impl Keyword for Overflow {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("drop-shots", Self::DropShots),
        ("truncate-left", Self::TruncateLeft),
    ];
}

/// How text is generated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationSpec {
    /// The most tokens of one generation.
    pub max_tokens: NonZeroU32,
    /// Strings that end a generation and are cut off; none is empty.
    pub stop: Vec<String>,
    /// 0 is greedy.
    pub temperature: NonNegative,
    /// Draw among this many of the likeliest tokens.
    pub top_k: Option<NonZeroU32>,
    /// Draw among the likeliest tokens that together reach this probability; above 0.
    pub top_p: Option<Probability>,
    /// Draw among tokens with at least this share of the likeliest one's probability.
    pub min_p: Option<Probability>,
    /// Divides the logits of tokens that occurred; above 0, and 1 changes nothing.
    pub repetition_penalty: Option<Finite>,
    /// Generations per example, each from its own random stream.
    pub repeats: NonZeroU32,
}

impl GenerationSpec {
    /// Whether the likeliest token is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature.get() == 0.0
    }
}

/// Reads `[scoring]`.
pub(super) fn read(fields: Fields<'_>) -> ScoringSpec {
    ScoringSpec {
        delimiter: fields.string("delimiter").map(|it| it.value),
        overflow: fields
            .keyword("overflow")
            .map_or(Overflow::default(), |it| it.value),
    }
}

/// Reads `[generation]`.
pub(super) fn read_generation(fields: Fields<'_>) -> Option<GenerationSpec> {
    let max_tokens = fields.required("max_tokens", positive(fields, "max_tokens"), "64");
    let stop = stop(fields);
    let temperature = fields.checked::<NonNegative>("temperature");
    let top_k = positive(fields, "top_k");
    let top_p = fields.checked::<Probability>("top_p");
    let min_p = fields.checked::<Probability>("min_p");
    let repetition_penalty = fields.checked::<Finite>("repetition_penalty");
    let repeats = positive(fields, "repeats");
    if let Some(zero) = top_p.as_ref().filter(|it| it.value.get() == 0.0) {
        fields.problems.error(
            &zero.place,
            "`top_p` is 0, which leaves no token to draw",
            "write a number above 0",
        );
    }
    if let Some(low) = repetition_penalty
        .as_ref()
        .filter(|it| it.value.get() <= 0.0)
    {
        let message = "`repetition_penalty` divides, so it must be above 0";
        fields.problems.error(
            &low.place,
            message,
            "1 changes nothing; 1.1 is a mild penalty",
        );
    }
    let temperature_is_bad = fields.has("temperature") && temperature.is_none();
    let temperature = temperature.map_or(NonNegative::default(), |it| it.value);
    if temperature.get() == 0.0 && !temperature_is_bad {
        refuse_draws(fields, repeats);
    }
    Some(GenerationSpec {
        max_tokens: max_tokens?,
        stop,
        temperature,
        top_k,
        top_p: top_p.map(|it| it.value),
        min_p: min_p.map(|it| it.value),
        repetition_penalty: repetition_penalty.map(|it| it.value),
        repeats: repeats.unwrap_or(NonZeroU32::MIN),
    })
}

/// Greedy decoding draws nothing: settings of a draw would be ignored in silence.
fn refuse_draws(fields: Fields<'_>, repeats: Option<NonZeroU32>) {
    for key in ["top_k", "top_p", "min_p"] {
        if fields.has(key) {
            let message = format!("`{key}` does nothing at temperature 0, which is greedy");
            fields.error(
                key,
                message,
                format!("set `temperature` above 0, or delete `{key}`"),
            );
        }
    }
    if repeats.is_some_and(|it| 1 < it.get()) {
        fields.error(
            "repeats",
            "greedy decoding gives the same text every time, so `repeats` above 1 is refused",
            "set `temperature` above 0, or delete `repeats`",
        );
    }
}

fn positive(fields: Fields<'_>, key: &str) -> Option<NonZeroU32> {
    fields
        .count::<u32>(key, 1)
        .and_then(|it| NonZeroU32::new(it.value))
}

/// The stop strings; one string may stand without a list.
fn stop(fields: Fields<'_>) -> Vec<String> {
    let written: Vec<Spanned<String>> = fields.one_or_more("stop").unwrap_or_default();
    for text in written.iter().filter(|it| it.value.is_empty()) {
        let message = "a `stop` string is empty, which would end every generation at once";
        fields.problems.error(
            &text.place,
            message,
            "delete it, or write \"\\n\" for the end of the line",
        );
    }
    written.into_iter().map(|it| it.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, spec};

    #[test]
    fn generation_is_greedy_by_default() {
        let generation = spec("[generation]\nmax_tokens = 64\nstop = '\\n'\n")
            .generation
            .unwrap();
        assert!(generation.is_greedy());
        assert_eq!(
            (generation.max_tokens.get(), generation.repeats.get()),
            (64, 1)
        );
        assert_eq!(
            generation.stop,
            ["\\n"],
            "a literal string keeps its backslash"
        );
        assert_eq!(spec("").generation, None);
    }

    /// A delimiter that is set, even to nothing, is not the default.
    #[test]
    fn an_empty_delimiter_is_not_an_absent_one() {
        assert_eq!(
            spec("").scoring,
            ScoringSpec {
                delimiter: None,
                overflow: Overflow::Error
            }
        );
        let set = spec("[scoring]\ndelimiter = ''\noverflow = 'truncate-left'\n").scoring;
        assert_eq!(
            set,
            ScoringSpec {
                delimiter: Some(String::new()),
                overflow: Overflow::TruncateLeft
            }
        );
    }

    #[test]
    fn generation_parses_or_says_why_not() {
        let warm = "temperature = 0.7";
        let table = [
            ("", "`[generation]` has no `max_tokens`".to_owned()),
            (
                "max_tokens = 0",
                "expected a whole number from 1 up for `max_tokens`, got 0".to_owned(),
            ),
            (
                "max_tokens = 5000000000",
                "expected a whole number from 1 up for `max_tokens`, got 5000000000".to_owned(),
            ),
            (
                "max_tokens = 1\ntemperature = -1",
                "`temperature`: expected a finite number, 0 or more, got -1".to_owned(),
            ),
            (
                "max_tokens = 1\ntop_k = 5",
                "`top_k` does nothing at temperature 0, which is greedy".to_owned(),
            ),
            (
                "max_tokens = 1\nrepeats = 2",
                "greedy decoding gives the same text every time, so `repeats` above 1 is refused"
                    .to_owned(),
            ),
            ("max_tokens = 1\nrepeats = 1", String::new()),
            ("max_tokens = 1\nrepetition_penalty = 1.1", String::new()),
            (
                "max_tokens = 1\nrepetition_penalty = 0",
                "`repetition_penalty` divides, so it must be above 0".to_owned(),
            ),
            (
                "max_tokens = 1\nstop = ['']",
                "a `stop` string is empty, which would end every generation at once".to_owned(),
            ),
            (
                "max_tokens = 1\nWARM\nrepeats = 3\ntop_k = 5\ntop_p = 1\nmin_p = 0",
                String::new(),
            ),
            (
                "max_tokens = 1\nWARM\ntop_p = 0",
                "`top_p` is 0, which leaves no token to draw".to_owned(),
            ),
            (
                "max_tokens = 1\nWARM\nmin_p = 2",
                "`min_p`: expected a number from 0 to 1, got 2".to_owned(),
            ),
        ];
        for (rest, expected) in table {
            let text = format!("[generation]\n{}\n", rest.replace("WARM", warm));
            assert_eq!(message(&text), expected, "{rest}");
        }
    }
}
