//! Small values that hold the proof of their own check.

use std::fmt;
use std::str::FromStr;

use super::fields::Explain;

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// Not a slug.
    #[error("`{got}` is not a plain lowercase name")]
    Slug {
        /// What was written.
        got: String,
    },
    /// Not a name of a variant, model or metric.
    #[error("`{got}` is not a plain name")]
    Name {
        /// What was written.
        got: String,
    },
    /// Negative, infinite or not a number.
    #[error("expected a finite number, 0 or more, got {got}")]
    NonNegative {
        /// What was written.
        got: f64,
    },
    /// Not within 0 to 1.
    #[error("expected a number from 0 to 1, got {got}")]
    Probability {
        /// What was written.
        got: f64,
    },
    /// Not strictly between one half and 1.
    #[error("expected a number above 0.5 and below 1, got {got}")]
    Confidence {
        /// What was written.
        got: f64,
    },
    /// Not a finite number.
    #[error("expected a finite number, got {got}")]
    Finite {
        /// What was written.
        got: f64,
    },
    /// Not a day of the calendar.
    #[error("expected a day such as \"2024-07-26\", got `{got}`")]
    Date {
        /// What was written.
        got: String,
    },
}

impl Explain for ValueError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Slug { got } => {
                let rule = "use small letters, digits, `.`, `_` and `-`, first a letter or digit, 64 at most";
                let plain: String = got
                    .to_lowercase()
                    .chars()
                    .map(|c| if c.is_whitespace() { '-' } else { c })
                    .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                    .collect();
                let meant = plain.parse::<Slug>().ok().map(|it| format!(", such as `{it}`"));
                Some(format!("{rule}{}", meant.unwrap_or_default()))
            }
            Self::Name { .. } => Some(
                "use ASCII letters, digits, `.`, `_`, `+` and `-`, first a letter or digit, 64 at most"
                    .to_owned(),
            ),
            Self::NonNegative { got } if got.is_finite() => Some(format!("did you mean {}?", -got)),
            Self::Probability { got } | Self::Confidence { got } if 1.0 < *got && *got < 100.0 => {
                Some(format!("for {got} %, write {}", got / 100.0))
            }
            Self::Date { .. } => Some("write year, month and day, with two digits each for the last two".to_owned()),
            _ => None,
        }
    }
}

/// A name that is safe as a folder on every system: `[a-z0-9][a-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Slug {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_name(text, |c| matches!(c, 'a'..='z' | '0'..='9'), "._-") {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::Slug {
            got: text.to_owned(),
        })
    }
}

/// Checks the name of a variant, model or metric: `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`.
///
/// Such a name is a value in the tables, an argument of flags that take globs, and may
/// follow `variant:` in a gate.
pub(super) fn check_name(text: &str) -> Result<(), ValueError> {
    if is_name(text, |c| c.is_ascii_alphanumeric(), "._+-") {
        return Ok(());
    }
    Err(ValueError::Name {
        got: text.to_owned(),
    })
}

/// Whether `text` is 1 to 64 characters, the first of them `plain`, the rest `plain` or in
/// `marks`.
fn is_name(text: &str, plain: impl Fn(char) -> bool, marks: &str) -> bool {
    text.len() <= 64
        && text.starts_with(&plain)
        && text.chars().all(|c| plain(c) || marks.contains(c))
}

/// A finite number, 0 or more; holding one is proof of the check.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct NonNegative(f64);

impl NonNegative {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for NonNegative {
    type Error = ValueError;

    fn try_from(got: f64) -> Result<Self, ValueError> {
        // `-0.0` is 0 and is kept as 0, so that no message ever shows its sign.
        if got.is_finite() && 0.0 <= got {
            Ok(Self(got + 0.0))
        } else {
            Err(ValueError::NonNegative { got })
        }
    }
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f64);

impl Probability {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = ValueError;

    fn try_from(got: f64) -> Result<Self, ValueError> {
        if (0.0..=1.0).contains(&got) {
            Ok(Self(got + 0.0))
        } else {
            Err(ValueError::Probability { got })
        }
    }
}

/// A one-sided confidence level, above one half and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Confidence {
    fn default() -> Self {
        Self(0.95)
    }
}

impl TryFrom<f64> for Confidence {
    type Error = ValueError;

    fn try_from(got: f64) -> Result<Self, ValueError> {
        if 0.5 < got && got < 1.0 {
            Ok(Self(got))
        } else {
            Err(ValueError::Confidence { got })
        }
    }
}

/// A number that is neither infinite nor NaN.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Finite(f64);

impl Finite {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Finite {
    type Error = ValueError;

    fn try_from(got: f64) -> Result<Self, ValueError> {
        if got.is_finite() {
            Ok(Self(got + 0.0))
        } else {
            Err(ValueError::Finite { got })
        }
    }
}

/// A day of the Gregorian calendar, from year 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The year, from 1 to 9999.
    pub fn year(self) -> u16 {
        self.year
    }

    /// The month, from 1 to 12.
    pub fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, from 1.
    pub fn day(self) -> u8 {
        self.day
    }
}

impl fmt::Display for Date {
    /// `YYYY-MM-DD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_date(text).ok_or_else(|| ValueError::Date {
            got: text.to_owned(),
        })
    }
}

fn parse_date(text: &str) -> Option<Date> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    if ![year, month, day].into_iter().all(digits) {
        return None;
    }
    let date = Date {
        year: year.parse().ok()?,
        month: month.parse().ok()?,
        day: day.parse().ok()?,
    };
    let leap = date.year.is_multiple_of(4)
        && (!date.year.is_multiple_of(100) || date.year.is_multiple_of(400));
    let days = match date.month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    (1 <= date.year && (1..=days).contains(&date.day)).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_safe_folder_name() {
        for good in ["a", "0", "translate", "qwen2.5_x-y", &"a".repeat(64)] {
            assert_eq!(good.parse::<Slug>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "A",
            "-a",
            ".a",
            "..",
            "a b",
            "a/b",
            "é",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<Slug>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(NonNegative::try_from(0.5).map(NonNegative::get), Ok(0.5));
        assert!(
            NonNegative::try_from(-0.0)
                .unwrap()
                .get()
                .is_sign_positive()
        );
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(NonNegative::try_from(bad).is_err(), "{bad}");
            assert!(Probability::try_from(bad).is_err(), "{bad}");
            assert!(Confidence::try_from(bad).is_err(), "{bad}");
        }
        assert!(Finite::try_from(f64::NAN).is_err());
        assert!(Finite::try_from(-3.0).is_ok());
        assert!(Probability::try_from(1.0).is_ok());
        assert!(Probability::try_from(1.1).is_err());
        assert!(Confidence::try_from(0.5).is_err());
        assert!(Confidence::try_from(1.0).is_err());
        assert!(Confidence::try_from(0.95).is_ok());
    }

    #[test]
    fn a_date_is_a_day_of_the_calendar() {
        for good in [
            "2024-07-26",
            "2024-02-29",
            "2000-02-29",
            "0001-01-01",
            "1999-12-31",
        ] {
            assert_eq!(good.parse::<Date>().unwrap().to_string(), good);
        }
        let bad = [
            "",
            "2024",
            "2024-7-26",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-04-31",
            "2024-01-00",
            "26-07-2024",
            "2024-07-26T00",
            "0000-01-01",
            "+024-01-01",
        ];
        for bad in bad {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
    }
}
