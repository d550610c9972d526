//! How BLEU cuts a text into words.
//!
//! Each tokenizer gives the words that sacrebleu 2.6.0's tokenizer of the same name
//! gives. Their origin is NIST's `mteval-v13a.pl` (`13a`) and `mteval-v14.pl` (`intl`).

use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::{TextMetricError, python_text};

/// How BLEU cuts a text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BleuTokenizer {
    /// WMT's default: ASCII punctuation is split off, save marks between digits.
    #[default]
    V13a,
    /// Every Unicode punctuation mark and symbol is split off, save marks between digits.
    Intl,
    /// Every character is a word.
    Char,
    /// Every Chinese character is a word, the rest is cut as by [`BleuTokenizer::V13a`].
    Zh,
    /// White space alone separates words; for texts that come tokenised.
    None,
}

impl BleuTokenizer {
    /// The names of all tokenizers, in the order of the variants.
    pub const ALL_NAMES: [&str; 5] = ["13a", "intl", "char", "zh", "none"];

    /// The name as written after `tokenize`, and in signatures.
    pub fn name(self) -> &'static str {
        match self {
            BleuTokenizer::V13a => "13a",
            BleuTokenizer::Intl => "intl",
            BleuTokenizer::Char => "char",
            BleuTokenizer::Zh => "zh",
            BleuTokenizer::None => "none",
        }
    }

    /// `text` with white space between its words.
    pub(super) fn tokenize(self, text: &str) -> String {
        let text = python_text::trim_end(text);
        match self {
            BleuTokenizer::V13a => tokenize_13a(text),
            BleuTokenizer::Intl => replace_in_turn(&INTL_RULES, text.to_owned()),
            BleuTokenizer::Char => text.chars().flat_map(|c| [c, ' ']).collect(),
            BleuTokenizer::Zh => tokenize_zh(text),
            BleuTokenizer::None => text.to_owned(),
        }
    }
}

impl FromStr for BleuTokenizer {
    type Err = TextMetricError;

    fn from_str(name: &str) -> Result<BleuTokenizer, TextMetricError> {
        match name {
            "13a" => Ok(BleuTokenizer::V13a),
            "intl" => Ok(BleuTokenizer::Intl),
            "char" => Ok(BleuTokenizer::Char),
            "zh" => Ok(BleuTokenizer::Zh),
            "none" => Ok(BleuTokenizer::None),
            _ => Err(TextMetricError::UnknownTokenizer {
                name: name.to_owned(),
            }),
        }
    }
}

type Rules = Vec<(Regex, &'static str)>;

/// Rules are applied one after the other, each to the whole text.
///
/// A rule's matches do not overlap: of two marks in a row, the second has lost its
/// left neighbour to the first match. That is so in the original as well.
fn rules(rules: &[(&str, &'static str)]) -> Rules {
    let compile = |pattern| Regex::new(pattern).expect("the pattern is constant and valid");
    rules
        .iter()
        .map(|(pattern, replacement)| (compile(pattern), *replacement))
        .collect()
}

fn replace_in_turn(rules: &Rules, text: String) -> String {
    rules.iter().fold(text, |text, (rule, with)| {
        rule.replace_all(&text, *with).into_owned()
    })
}

/// The "language-dependent part" of mteval-v13a, for Western languages.
static WESTERN_RULES: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[
        // ASCII punctuation and symbols, without ' , - and the period.
        (
            r"([\x20-\x26\x28-\x2b/\x3a-\x40\x5b-\x60\x7b-\x7e])",
            " $1 ",
        ),
        // A period or comma, unless a digit stands before it.
        (r"([^0-9])([.,])", "$1 $2 "),
        // A period or comma, unless a digit stands after it.
        (r"([.,])([^0-9])", " $1 $2"),
        // A dash after a digit.
        (r"([0-9])(-)", "$1 $2 "),
    ])
});

static INTL_RULES: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[
        (r"(\P{N})(\p{P})", "$1 $2 "),
        (r"(\p{P})(\P{N})", " $1 $2"),
        (r"(\p{S})", " $1 "),
    ])
});

fn tokenize_13a(text: &str) -> String {
    let mut text = text
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    // In this order: `&amp;lt;` becomes `<`.
    for (entity, character) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        text = text.replace(entity, character);
    }
    replace_in_turn(&WESTERN_RULES, format!(" {text} "))
}

fn tokenize_zh(text: &str) -> String {
    let mut spaced = String::with_capacity(2 * text.len());
    for c in text.trim_start_matches(python_text::is_space).chars() {
        if is_split_by_zh(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    replace_in_turn(&WESTERN_RULES, spaced)
}

/// Whether sacrebleu's `zh` makes `c` a word of its own.
///
/// The ranges of supplementary ideographs are written there as `'\u20000'` to
/// `'\u2a6d6'`, which Python reads as U+2000 followed by the digit 0, and so on.
/// Compared as strings, that range holds U+2001 to U+2A6D, much of it punctuation,
/// arrows and mathematics, and leaves out the ideographs that were meant; the range
/// after it shrinks to part of the Kangxi radicals, which are listed anyway. The
/// numbers in use were computed that way, so it is kept.
fn is_split_by_zh(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' // CJK unified ideographs, extension A
        | '\u{4e00}'..='\u{9fbb}' // CJK unified ideographs
        | '\u{f900}'..='\u{fa2d}' // CJK compatibility ideographs
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{2001}'..='\u{2a6d}' // See above.
        | '\u{ff00}'..='\u{ffef}' // Full-width ASCII, half-width katakana and hangul
        | '\u{2e80}'..='\u{2eff}' // CJK radicals
        | '\u{3000}'..='\u{303f}' // CJK punctuation
        | '\u{31c0}'..='\u{31ef}' // CJK strokes
        | '\u{2f00}'..='\u{2fdf}' // Kangxi radicals
        | '\u{2ff0}'..='\u{2fff}' // Structure of ideographs
        | '\u{3100}'..='\u{312f}' // Bopomofo
        | '\u{31a0}'..='\u{31bf}' // Bopomofo, extended
        | '\u{fe10}'..='\u{fe1f}' // Vertical forms
        | '\u{fe30}'..='\u{fe4f}' // CJK compatibility forms
        | '\u{3200}'..='\u{33ff}' // Enclosed and compatibility CJK
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sacrebleu 2.6.0, `BLEU(tokenize=...).tokenizer(text)`; white space collapsed.
    #[test]
    fn words_are_those_of_sacrebleu() {
        let table = [
            (
                BleuTokenizer::V13a,
                "It's 1,000.5 & 3-4.",
                "It's 1,000.5 & 3 - 4 .",
            ),
            (
                BleuTokenizer::V13a,
                "a &amp;lt; &quot;b&quot; x-\ny",
                "a < \" b \" xy",
            ),
            (
                BleuTokenizer::Intl,
                "«Ça» 3,14 a+b 42.",
                "« Ça » 3,14 a + b 42.",
            ),
            (BleuTokenizer::Char, "ab 我", "a b 我"),
            (BleuTokenizer::Zh, "我用 v1.5—“好”", "我 用 v1.5 — “ 好 ”"),
            (BleuTokenizer::Zh, "𠀀𠀁", "𠀀𠀁"),
            (BleuTokenizer::None, "a,b  c.", "a,b c."),
        ];
        for (tokenizer, text, expected) in table {
            let tokenized = tokenizer.tokenize(text);
            let words: Vec<&str> = python_text::words(&tokenized).collect();
            assert_eq!(words.join(" "), expected, "{} on {text}", tokenizer.name());
        }
    }

    #[test]
    fn every_name_parses_to_the_tokenizer_of_that_name() {
        for name in BleuTokenizer::ALL_NAMES {
            assert_eq!(name.parse::<BleuTokenizer>().unwrap().name(), name);
        }
        let error = "ja-mecab".parse::<BleuTokenizer>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown BLEU tokenizer `ja-mecab`, expected one of: 13a, intl, char, zh, none"
        );
    }
}
