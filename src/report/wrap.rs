//! Sentences broken at spaces to the width of the terminal.

use super::escape::columns;

/// Breaks `text` into lines of at most `width` columns, a longer word alone on its line;
/// lines after the first begin with `indent`.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let (mut wrapped, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let own = columns(word);
        if 0 < used && width < used + 1 + own {
            wrapped.push('\n');
            wrapped.push_str(indent);
            used = columns(indent);
        } else if !wrapped.is_empty() {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += own;
    }
    wrapped
}

/// Cuts a line into pieces of at most `width` columns, wherever that is; at least one piece.
pub(super) fn pieces(line: &str, width: usize) -> Vec<String> {
    let (mut pieces, mut used) = (vec![String::new()], 0);
    for character in line.chars() {
        let own = unicode_width::UnicodeWidthChar::width(character).unwrap_or(0);
        if 0 < used && width < used + own {
            pieces.push(String::new());
            used = 0;
        }
        used += own;
        if let Some(last) = pieces.last_mut() {
            last.push(character);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_break_at_spaces() {
        assert_eq!(
            wrap("one two three four", 9, "  "),
            "one two\n  three\n  four"
        );
        assert_eq!(
            wrap("incomprehensible word", 5, ""),
            "incomprehensible\nword"
        );
        assert_eq!(wrap("", 5, ""), "");
    }

    #[test]
    fn prompts_break_anywhere() {
        assert_eq!(pieces("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(pieces("日本語", 5), ["日本", "語"]);
        assert_eq!(pieces("", 5), [""]);
        assert_eq!(pieces("ab", 0), ["a", "b"]);
    }
}
