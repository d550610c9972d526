//! Patterns that choose variants and models by name: `*` is any text, `?` one character.
//!
//! Names are slugs, so there are no classes and no escapes: every other character is
//! itself. No pattern at all chooses everything.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// One pattern; it must match the whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(String);

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Glob {
    /// Whether `name` as a whole fits the pattern.
    ///
    /// Goes back to the last `*` only, so the time is at most the product of the lengths.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where the last `*` stands, and how much of the name it takes so far, up to `n`.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, end)) = star else { return false };
                    star = Some((at, end + 1));
                    p = at + 1;
                    n = end + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

/// Patterns of which one must match; none of them at all matches every name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Globs(Vec<Glob>);

impl Globs {
    /// The patterns, as typed.
    pub(crate) fn new(globs: Vec<Glob>) -> Self {
        Self(globs)
    }

    /// Whether `name` is chosen.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|it| it.matches(name))
    }

    /// The patterns that choose none of `names`: a slip of the keyboard, to be refused.
    pub(crate) fn without_match<'a>(
        &'a self,
        names: &'a [&str],
    ) -> impl Iterator<Item = &'a Glob> + 'a {
        self.0
            .iter()
            .filter(|glob| !names.iter().any(|it| glob.matches(it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().unwrap()
    }

    #[test]
    fn a_glob_matches_the_whole_name() {
        for (pattern, name, expected) in [
            ("few", "few", true),
            ("few", "fewer", false),
            ("few", "a-few", false),
            ("few*", "fewer", true),
            ("*few", "a-few", true),
            ("*", "", true),
            ("*", "few", true),
            ("", "", true),
            ("", "few", false),
            ("f?w", "few", true),
            ("f?w", "fw", false),
            ("?", "é", true),
            // The star first takes too little and must take more.
            ("*-a", "x-a-a", true),
            ("a*b*c", "a-b-b-c-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
            ("a**", "a", true),
            // A dot and brackets are themselves.
            ("v1.2", "v1x2", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(glob(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn no_pattern_chooses_everything_and_several_choose_either() {
        assert!(Globs::default().matches("few"));
        let either = Globs::new(vec![glob("few"), glob("ba*")]);
        assert!(either.matches("few") && either.matches("bare") && !either.matches("chat"));
    }

    #[test]
    fn a_pattern_without_a_match_is_told() {
        let globs = Globs::new(vec![glob("few"), glob("fwe*"), glob("*")]);
        let lost: Vec<String> = globs
            .without_match(&["bare", "few"])
            .map(ToString::to_string)
            .collect();
        assert_eq!(lost, ["fwe*"]);
        assert_eq!(Globs::default().without_match(&[]).count(), 0);
    }
}
