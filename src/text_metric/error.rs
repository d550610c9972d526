//! Why a text metric could not be declared or could not judge a case.

use super::{BleuTokenizer, Normalizer};

/// Why a text metric could not be declared, or could not judge a case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TextMetricError {
    /// The text after `pattern` or `extract` does not compile; look-around and
    /// back-references are not part of the syntax.
    #[error("`{pattern}` is not a valid regular expression")]
    InvalidPattern {
        /// The pattern as written.
        pattern: String,
        /// What the regex compiler says, with the place in the pattern.
        source: regex::Error,
    },
    /// No BLEU tokenizer has this name.
    #[error("unknown BLEU tokenizer `{name}`, expected one of: {}", BleuTokenizer::ALL_NAMES.join(", "))]
    UnknownTokenizer {
        /// The name as written.
        name: String,
    },
    /// No normaliser has this name.
    #[error("unknown normalizer `{name}`, expected one of: {}", Normalizer::ALL_NAMES.join(", "))]
    UnknownNormalizer {
        /// The name as written.
        name: String,
    },
    /// `contains` was given a list of values without a value in it.
    #[error("`contains` has an empty list of values, so there is nothing to look for")]
    NoValues,
    /// Every text contains the empty text, so such a value judges nothing.
    #[error(
        "the value `{value}` of `contains` is empty once normalized, so every text contains it"
    )]
    EmptyValue {
        /// The value as written.
        value: String,
    },
    /// The metric compares with references and the case has none.
    #[error("metric `{metric}` compares with references, and there are none")]
    NoReferences {
        /// The metric's name, e.g. `exact_match`.
        metric: &'static str,
    },
}
