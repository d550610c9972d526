//! A regular expression that has been proven to compile.

use regex::Regex;

use super::TextMetricError;

/// A compiled regular expression; two are equal if they were written alike.
///
/// The syntax is that of the `regex` crate: Unicode-aware, linear time on every
/// text, without look-around and back-references.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles `pattern`.
    ///
    /// # Errors
    ///
    /// [`TextMetricError::InvalidPattern`] if it does not compile or would take too much memory.
    pub fn new(pattern: &str) -> Result<Pattern, TextMetricError> {
        Regex::new(pattern)
            .map(Pattern)
            .map_err(|source| TextMetricError::InvalidPattern {
                pattern: pattern.to_owned(),
                source,
            })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the pattern matches anywhere in `text`.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// What the pattern takes out of `text`, from its first match; `None` without a match.
    ///
    /// That is the first group that took part in the match, so that alternatives may
    /// each have their own group; without such a group, the whole match.
    pub(super) fn extract<'t>(&self, text: &'t str) -> Option<&'t str> {
        let captures = self.0.captures(text)?;
        let group = captures.iter().skip(1).flatten().next();
        group
            .or_else(|| captures.get(0))
            .map(|found| found.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn the_first_group_that_matched_is_extracted_else_the_whole_match() {
        let table: &[(&str, &str, Option<&str>)] = &[
            (
                r"Answer: (\w+)",
                "Answer: Paris. Answer: Lyon.",
                Some("Paris"),
            ),
            (r"\d+", "between 12 and 34", Some("12")),
            (r"is (\w+)|: (\w+)", "it: Paris", Some("Paris")),
            (r"(x)?y", "y", Some("y")),
            (r"(x*)y", "y", Some("")),
            (r"Answer: (\w+)", "no answer", None),
        ];
        for (pattern, text, expected) in table {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(
                pattern.extract(text),
                *expected,
                "`{}` on `{text}`",
                pattern.as_str()
            );
        }
    }

    #[test]
    fn patterns_are_equal_where_they_are_written_alike() {
        let of = |pattern: &str| Pattern::new(pattern).unwrap();
        assert_eq!(of("a+").as_str(), "a+");
        assert_eq!(of("a+"), of("a+"));
        assert_ne!(of("a+"), of("aa*"));
    }

    #[test]
    fn a_bad_pattern_says_which_and_why() {
        let error = Pattern::new("(open").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`(open` is not a valid regular expression"
        );
        assert!(
            error
                .source()
                .unwrap()
                .to_string()
                .contains("unclosed group")
        );
    }
}
