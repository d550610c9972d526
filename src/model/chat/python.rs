//! Python's string methods where the template library has none or another one.
//!
//! Most come from `minijinja-contrib`. Its white space is Unicode's, while Python's
//! `str.strip` and `str.split` also take the four ASCII separators (U+001C to U+001F);
//! its `title` begins words at spaces only, while Python's begins one behind every
//! character that is no letter with case.

use minijinja::value::{Value, from_args};
use minijinja::{Error, State};
use minijinja_contrib::pycompat;

/// Calls `method` on `value` as Python would.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, method))
        }
        "split" if args.iter().all(Value::is_none) => {
            text.split(is_space).filter(|it| !it.is_empty()).collect()
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        _ => return pycompat::unknown_method_callback(state, value, method, args),
    })
}

/// The filter `trim`, which is `str.strip` of the value's text.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of a minijinja filter"
)]
pub(super) fn trim(value: Value, chars: Option<&str>) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    strip(&text, chars, "strip").to_owned()
}

fn strip<'a>(text: &'a str, chars: Option<&str>, method: &str) -> &'a str {
    let goes = |it: char| chars.map_or_else(|| is_space(it), |chars| chars.contains(it));
    let text = if method == "rstrip" {
        text
    } else {
        text.trim_start_matches(goes)
    };
    if method == "lstrip" {
        text
    } else {
        text.trim_end_matches(goes)
    }
}

/// Python's `str.isspace` of one character.
fn is_space(it: char) -> bool {
    it.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&it)
}

/// `str.title`: a letter is lower case behind a letter with case, else title case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for it in text.chars() {
        match it {
            _ if is_inside => out.extend(it.to_lowercase()),
            // The letters with a title case of their own.
            'Ǆ' | 'ǅ' | 'ǆ' => out.push('ǅ'),
            'Ǉ' | 'ǈ' | 'ǉ' => out.push('ǈ'),
            'Ǌ' | 'ǋ' | 'ǌ' => out.push('ǋ'),
            'Ǳ' | 'ǲ' | 'ǳ' => out.push('ǲ'),
            _ => {
                // `ß` becomes `Ss`.
                let mut upper = it.to_uppercase();
                out.extend(upper.next());
                out.extend(upper.flat_map(char::to_lowercase));
            }
        }
        is_inside = it.is_lowercase() || it.is_uppercase() || "ǅǈǋǲ".contains(it);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts from Python 3.11.
    #[test]
    fn titles_and_white_space_are_pythons() {
        for (text, expected) in [
            ("they're bill's", "They'Re Bill'S"),
            ("<|im_end|>x1y", "<|Im_End|>X1Y"),
            ("ßa ﬁn ǆa éÀ", "Ssa Fin ǅa Éà"),
        ] {
            assert_eq!(title(text), expected);
        }
        let text = "\u{1c} \u{a0}a\u{1f}\n";
        assert_eq!(strip(text, None, "strip"), "a");
        assert_eq!(strip(text, None, "lstrip"), "a\u{1f}\n");
        assert_eq!(strip("xaxyx", Some("yx"), "rstrip"), "xa");
        assert_eq!(trim(Value::from(1.0), None), "1.0");
    }
}
