//! Texts that nobody vouches for, made safe to show on a terminal.
//!
//! Data and generations may hold anything: escape sequences that move the cursor, marks
//! that turn the reading direction, characters that show as nothing. Each of those is
//! written out, such as `\u{1b}`; everything else stays what it is.
//!
//! A log of a CI system is a terminal of another kind, in which lines are commands. GitHub
//! Actions takes a line that begins with `::`, however far it is indented, and it and Azure
//! Pipelines and `TeamCity` take `##[...]`, `##vso[...]` and `##teamcity[...]` wherever they
//! stand. The second `#` of those is written out with the rest; what begins with `::` gets
//! a bar in front, by [`inert`], once lines are what they will be.

use std::borrow::Cow;

use serde::Serialize;
use unicode_width::UnicodeWidthChar;

/// What stands where a text was cut.
const CUT: char = '…';

/// The text on one line: line ends and tabs become `\n`, `\r` and `\t`.
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push(&mut shown, character);
    }
    match without_marks(&shown, "\\u{23}") {
        Cow::Borrowed(_) => shown,
        Cow::Owned(it) => it,
    }
}

/// The text as lines, without their ends; everything but line feeds is written as in [`line()`].
///
/// `"a\n"` has two lines, the second of them empty: a line end at the end is seen.
pub fn lines(text: &str) -> Vec<String> {
    text.split('\n').map(line).collect()
}

/// The text with nothing in it that a CI system takes for a command; lines stay lines.
///
/// For whole texts on their way out, whatever they were put together from.
pub fn inert(text: &str) -> Cow<'_, str> {
    let unmarked = without_marks(text, "\\u{23}");
    // .NET's reader, which the runners use, also ends a line at a carriage return.
    let is_command = |line: &str| line.trim_start().starts_with("::");
    if !unmarked.split(['\n', '\r']).any(is_command) {
        return unmarked;
    }
    let mut out = String::with_capacity(unmarked.len() + 2);
    for line in unmarked.split_inclusive(['\n', '\r']) {
        let start = line.trim_start();
        if is_command(line) {
            out.push_str(&line[..line.len() - start.len()]);
            out.push_str("| ");
            out.push_str(start);
        } else {
            out.push_str(line);
        }
    }
    Cow::Owned(out)
}

/// A JSON document on several lines, with a line feed at its end and no command in it.
///
/// No line of one begins with `::`, and a `#` in it is part of a text, where it may be
/// written by its number.
pub fn document(json: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(json);
    // Infinite and undefined numbers become null, and every key is a string.
    let text = text.expect("plain structs and values always have a JSON form");
    without_marks(&text, "\\u0023").into_owned() + "\n"
}

/// The text with the second `#` of `##[`, `##vso[` and the like as `written`.
fn without_marks<'t>(text: &'t str, written: &str) -> Cow<'t, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices('#') {
        let Some(name) = text[at..].strip_prefix("##") else {
            continue;
        };
        let end = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        if end.starts_with('[') {
            out.push_str(&text[done..=at]);
            out.push_str(written);
            done = at + 2;
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The start of the text on one line of at most `width` columns, `…` where it was cut.
pub fn head(text: &str, width: usize) -> String {
    // A character of the text is at least one of the line's, so that is enough of it.
    let enough: String = text.chars().take(limit(width) + 1).collect();
    let shown = line(&enough);
    if fits(&shown, width) {
        return shown;
    }
    let mut cut = kept(shown.chars(), width);
    cut.push(CUT);
    cut
}

/// The end of the text on one line of at most `width` columns, `…` where it was cut.
pub fn tail(text: &str, width: usize) -> String {
    let enough: String = reversed(text.chars().rev().take(limit(width) + 1));
    let shown = line(&enough);
    if fits(&shown, width) {
        return shown;
    }
    let mut cut = kept(shown.chars().rev(), width);
    cut.push(CUT);
    reversed(cut.chars())
}

/// Characters that a line of that width holds at most: marks without a width pile up on
/// others, and a whole pile is no line.
fn limit(width: usize) -> usize {
    4 * width
}

fn reversed(characters: impl Iterator<Item = char>) -> String {
    let mut characters: Vec<char> = characters.collect();
    characters.reverse();
    characters.into_iter().collect()
}

fn fits(shown: &str, width: usize) -> bool {
    columns(shown) <= width && shown.chars().count() <= limit(width)
}

/// As many characters as leave room for the mark of the cut.
fn kept(characters: impl Iterator<Item = char>, width: usize) -> String {
    let (mut kept, mut used, mut n) = (String::new(), 1, 1);
    for character in characters {
        used += character.width().unwrap_or(0);
        n += 1;
        if width < used || limit(width) < n {
            break;
        }
        kept.push(character);
    }
    kept
}

/// How many columns a text takes on a terminal.
pub fn columns(shown: &str) -> usize {
    shown.chars().map(|it| it.width().unwrap_or(0)).sum()
}

fn push(shown: &mut String, character: char) {
    match character {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        it if is_treacherous(it) => shown.extend(it.escape_unicode()),
        it => shown.push(it),
    }
}

/// Whether a character does something to a terminal or hides from the eye.
fn is_treacherous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' // soft hyphen
            | '\u{61c}' | '\u{200e}' | '\u{200f}' // marks of direction
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
            | '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' // nothing to see
            | '\u{e0000}'..='\u{e007f}' // tags, which spell ASCII invisibly
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_moves_the_cursor_is_written_out() {
        assert_eq!(line("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(line("\u{9b}31m\u{7f}\u{0}"), "\\u{9b}31m\\u{7f}\\u{0}");
        assert_eq!(line("abc\u{202e}fdp.exe"), "abc\\u{202e}fdp.exe");
        assert_eq!(line("one\ntwo\tthree\r\n"), "one\\ntwo\\tthree\\r\\n");
        assert_eq!(line("\u{feff}\u{e0041}"), "\\u{feff}\\u{e0041}");
        assert_eq!(lines("a\nb\u{8}\n"), ["a", "b\\u{8}", ""]);
    }

    #[test]
    fn texts_of_all_languages_stay_what_they_are() {
        for text in [
            "Größe",
            "日本語",
            "مرحبا",
            "नमस्ते",
            "👩\u{200d}👧",
            "C:\\new",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn long_texts_are_cut_at_either_end() {
        assert_eq!(head("abcdef", 6), "abcdef");
        assert_eq!(head("abcdefg", 6), "abcde…");
        assert_eq!(tail("abcdefg", 6), "…cdefg");
        // A character of two columns does not fit into the last one.
        assert_eq!(head("日本語日本", 6), "日本…");
        assert_eq!(tail("日本語日本", 6), "…日本");
        assert_eq!(head("abc", 0), "…");
        // A pile of accents is no wider than what it stands on.
        let pile = format!("a{}", "\u{301}".repeat(1_000));
        assert!(head(&pile, 10).chars().count() <= 41);
    }

    /// Whether a line is a command to the runners: as in `ActionCommand.cs` of actions/runner,
    /// `Command.cs` of azure-pipelines-agent, and the service messages of `TeamCity`.
    fn is_command(line: &str) -> bool {
        // One by one, since `###[` has a mark that begins within another.
        let marks = line.match_indices('#');
        let mut names = marks.filter_map(|(at, _)| line[at..].strip_prefix("##"));
        let name_of = |it: &str| it.find(|c: char| !c.is_ascii_alphanumeric());
        // `##[`, `##vso[`, `##teamcity[`, and whatever else may come to be one.
        let is_mark = |it: &str| name_of(it).is_some_and(|end| it[end..].starts_with('['));
        line.trim_start().starts_with("::") || names.any(is_mark)
    }

    fn has_command(text: &str) -> bool {
        text.split(['\n', '\r']).any(is_command)
    }

    #[test]
    fn commands_are_written_so_that_they_are_none() {
        for (text, expected) in [
            (
                "::error::x\n \t::debug::y ::\nstd::x",
                "| ::error::x\n \t| ::debug::y ::\nstd::x",
            ),
            ("a\r::error::x", "a\r| ::error::x"),
            ("see ##vso[task.x]", "see #\\u{23}vso[task.x]"),
            ("###[group]##[x]", "##\\u{23}[group]#\\u{23}[x]"),
            ("## [link] #[a] ##", "## [link] #[a] ##"),
        ] {
            assert_eq!(inert(text), expected);
        }
        let json = document(&serde_json::json!({"a": "##vso[x]", "b": "\n::c"}));
        assert!(!has_command(&json), "{json}");
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["a"], "##vso[x]");
    }

    proptest! {
        #[test]
        fn no_text_is_a_command(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "::", ":", "#", "##", "[", "vso[", "teamcity[", "error", " ", "\t", "\u{a0}",
                    "\u{2003}", "\n", "\r", "\r\n", "\\", "é", "\u{1b}[0m", "\"",
                ]),
                0..12,
            )
        ) {
            let text = parts.concat();
            let shown = inert(&text);
            prop_assert!(!has_command(&shown), "{:?}", shown);
            prop_assert!(has_command(&text) || shown == text, "{:?} is {:?}", text, shown);
            prop_assert_eq!(inert(&shown), shown.as_ref());
            let json = document(&serde_json::json!({ text.clone(): [text.clone()] }));
            prop_assert!(!has_command(&json), "{}", json);
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read[&text][0], &text);
        }

        #[test]
        fn no_text_reaches_the_terminal_raw(text in any::<String>(), width in 0_usize..40) {
            let safe = |shown: &str| !shown.chars().any(is_treacherous) && !shown.contains("##[");
            prop_assert!(safe(&line(&text)));
            prop_assert!(lines(&text).iter().all(|it| safe(it)));
            for cut in [head(&text, width), tail(&text, width)] {
                prop_assert!(safe(&cut));
                prop_assert!(columns(&cut) <= width.max(1), "{cut:?} is wider than {width}");
            }
        }

        #[test]
        fn a_text_that_fits_is_not_cut(text in "[a-z \u{1b}\n]{0,10}") {
            prop_assert_eq!(head(&text, 80), line(&text));
            prop_assert_eq!(tail(&text, 80), line(&text));
        }
    }
}
