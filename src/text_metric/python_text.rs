//! White space as Python sees it.
//!
//! The reference implementations split and strip with Python's `str` methods.
//! Python counts the four separators U+001C to U+001F as white space; Unicode's
//! `White_Space` property, and with it Rust's [`char::is_whitespace`], does not.
//! Elsewhere the two agree.

/// Whether Python's `str.isspace` holds for `c`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The maximal runs without white space, as Python's `text.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `text` without white space at its end, as Python's `text.rstrip()`.
pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python 3.11: `"a\x1cb\x85c\u3000d\u200be".split() == ["a", "b", "c", "d\u200be"]`.
    #[test]
    fn words_are_cut_where_python_cuts() {
        let words: Vec<&str> = words("a\u{1c}b\u{85}c\u{3000}d\u{200b}e").collect();
        assert_eq!(words, ["a", "b", "c", "d\u{200b}e"]);
        assert_eq!(trim_end(" a \u{1f}\n"), " a");
    }
}
