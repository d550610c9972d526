//! What is done to texts before they are compared.

use std::str::FromStr;

use unicode_normalization::UnicodeNormalization;

use super::{TextMetricError, squad};

/// One step that makes two spellings of the same answer equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Normalizer {
    /// Unicode's canonical composition: `e` with a combining accent becomes `é`.
    Nfc,
    /// White space is dropped from both ends.
    Trim,
    /// Letters become lowercase.
    Lower,
    /// The normalisation of SQuAD v1.1: lowercase, without ASCII punctuation and the
    /// articles `a`, `an`, `the`, words joined by one space.
    Squad,
}

impl Normalizer {
    /// The names of all normalisers, in the order of the variants.
    pub const ALL_NAMES: [&str; 4] = ["nfc", "trim", "lower", "squad"];

    /// The name as written after `normalize`.
    pub fn name(self) -> &'static str {
        match self {
            Normalizer::Nfc => "nfc",
            Normalizer::Trim => "trim",
            Normalizer::Lower => "lower",
            Normalizer::Squad => "squad",
        }
    }

    /// Applies `normalizers` to `text`, in the order they are listed.
    pub(super) fn apply_all(normalizers: &[Normalizer], text: &str) -> String {
        normalizers
            .iter()
            .fold(text.to_owned(), |text, normalizer| normalizer.apply(&text))
    }

    fn apply(self, text: &str) -> String {
        match self {
            Normalizer::Nfc => text.nfc().collect(),
            Normalizer::Trim => text.trim().to_owned(),
            Normalizer::Lower => text.to_lowercase(),
            Normalizer::Squad => squad::normalize(text),
        }
    }
}

impl FromStr for Normalizer {
    type Err = TextMetricError;

    fn from_str(name: &str) -> Result<Normalizer, TextMetricError> {
        match name {
            "nfc" => Ok(Normalizer::Nfc),
            "trim" => Ok(Normalizer::Trim),
            "lower" => Ok(Normalizer::Lower),
            "squad" => Ok(Normalizer::Squad),
            _ => Err(TextMetricError::UnknownNormalizer {
                name: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_the_normalizer_of_that_name() {
        for name in Normalizer::ALL_NAMES {
            assert_eq!(name.parse::<Normalizer>().unwrap().name(), name);
        }
        let error = "strip".parse::<Normalizer>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown normalizer `strip`, expected one of: nfc, trim, lower, squad"
        );
    }

    #[test]
    fn each_step_does_what_its_name_says() {
        let table = [
            (Normalizer::Nfc, " e\u{301} ", " é "),
            (Normalizer::Trim, "\n É \u{a0}", "É"),
            (Normalizer::Lower, " É ", " é "),
            (Normalizer::Squad, "The É!", "é"),
        ];
        for (normalizer, text, expected) in table {
            assert_eq!(normalizer.apply(text), expected, "{normalizer:?}");
        }
    }

    /// Composed first, `á` is one letter; normalised first, its bare `a` is an article.
    #[test]
    fn steps_run_in_the_order_listed() {
        let text = "a\u{301} b";
        assert_eq!(
            Normalizer::apply_all(&[Normalizer::Nfc, Normalizer::Squad], text),
            "á b"
        );
        assert_eq!(
            Normalizer::apply_all(&[Normalizer::Squad, Normalizer::Nfc], text),
            "\u{301} b"
        );
        assert_eq!(Normalizer::apply_all(&[], " as is "), " as is ");
    }
}
