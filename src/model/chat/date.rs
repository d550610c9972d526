//! A calendar date and Python's `strftime` for it.

use super::ChatError;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A day of the Gregorian calendar from year 1 to 9999, at midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// Reads `2024-07-26`.
    pub(super) fn parse(text: &str) -> Result<Self, ChatError> {
        let bad = || ChatError::BadDate {
            date: text.to_owned(),
        };
        let bytes = text.as_bytes();
        let is_shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_shaped {
            return Err(bad());
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().map_err(|_| bad());
        let it = Self {
            year: number(0..4)?,
            month: number(5..7)?,
            day: number(8..10)?,
        };
        let is_date = it.year != 0
            && (1..=12).contains(&it.month)
            && (1..=days_in(it.year, it.month)).contains(&it.day);
        if is_date { Ok(it) } else { Err(bad()) }
    }

    /// The date by a format of Python's `strftime`, in English.
    ///
    /// An error text for a directive that is not known or depends on the place.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(it) = chars.next() {
            if it != '%' {
                out.push(it);
                continue;
            }
            // glibc's `%-d`: without the leading zero.
            let directive = match chars.next() {
                Some('-') => chars.next().map(|it| (it, true)),
                other => other.map(|it| (it, false)),
            };
            let piece = directive.and_then(|(it, bare)| self.directive(it, bare));
            out.push_str(&piece.ok_or_else(|| format!("the date format `{format}` is not known"))?);
        }
        Ok(out)
    }

    fn directive(self, directive: char, bare: bool) -> Option<String> {
        let two = |n: u32| {
            if bare {
                n.to_string()
            } else {
                format!("{n:02}")
            }
        };
        let month = MONTHS[self.month as usize - 1];
        let weekday = DAYS[self.weekday() as usize];
        Some(match directive {
            'Y' => self.year.to_string(),
            'y' => two(self.year % 100),
            'm' => two(self.month),
            'd' => two(self.day),
            'e' => format!("{:2}", self.day),
            'B' => month.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'w' => self.weekday().to_string(),
            'u' => (if self.weekday() == 0 {
                7
            } else {
                self.weekday()
            })
            .to_string(),
            'j' if bare => self.day_of_year().to_string(),
            'j' => format!("{:03}", self.day_of_year()),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'D' => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
            'H' | 'M' | 'S' => two(0),
            'I' => two(12),
            'p' => "AM".to_owned(),
            'T' => "00:00:00".to_owned(),
            'R' => "00:00".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }

    fn day_of_year(self) -> u32 {
        (1..self.month)
            .map(|month| days_in(self.year, month))
            .sum::<u32>()
            + self.day
    }

    /// Days since Sunday.
    fn weekday(self) -> u32 {
        let y = self.year - 1;
        // 1 January of year 1 was a Monday.
        (y + y / 4 - y / 100 + y / 400 + self.day_of_year()) % 7
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts from Python 3.11's `datetime.strftime` (C locale, glibc).
    #[test]
    fn dates_format_as_in_python() {
        let table = [
            ("2024-07-26", "%d %b %Y", "26 Jul 2024"),
            (
                "2024-07-26",
                "%A, %B %-d, %Y|%a|%j|%w|%u",
                "Friday, July 26, 2024|Fri|208|5|5",
            ),
            (
                "2000-02-29",
                "%y-%m-%d %F %D %a",
                "00-02-29 2000-02-29 02/29/00 Tue",
            ),
            (
                "1999-03-07",
                "%e|%-m|%H:%M:%S|%I %p|%%|%a|%u",
                " 7|3|00:00:00|12 AM|%|Sun|7",
            ),
            ("2100-03-01", "%j %A", "060 Monday"),
        ];
        for (date, format, expected) in table {
            assert_eq!(
                Date::parse(date).unwrap().format(format).as_deref(),
                Ok(expected)
            );
        }
        assert!(Date::parse("2024-07-26").unwrap().format("%c").is_err());
        assert!(Date::parse("2024-07-26").unwrap().format("%").is_err());
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2024-7-26",
            "2024-02-30",
            "2023-02-29",
            "0000-01-01",
            "2024-13-01",
            "2024-00-10",
            "+024-01-01",
        ] {
            assert_eq!(
                Date::parse(text),
                Err(ChatError::BadDate {
                    date: text.to_owned()
                })
            );
        }
    }
}
