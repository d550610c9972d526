//! Numbers as people read them: rounded to what their unit deserves, never `-0.0`.

use crate::metric::Unit;
use crate::stats::Interval;

/// What stands where there is no number.
pub(super) const NOTHING: &str = "–";

/// Decimals of the finest difference that is shown rounded.
const MAX_DECIMALS: usize = 12;

/// A value in the metric's unit, without the unit: `87.5` for a fraction of 0.875.
pub(super) fn value(unit: Unit, value: f64) -> String {
    if unit == Unit::Percent {
        return fixed(100.0 * value, 1);
    }
    let size = value.abs();
    match unit {
        Unit::Plain if 1e6 <= size && size.is_finite() => format!("{value:.2e}"),
        Unit::Plain if 1e3 <= size => fixed(value, 0),
        Unit::Plain if 1e2 <= size => fixed(value, 1),
        Unit::Percent | Unit::Points => fixed(value, 1),
        Unit::Nats => fixed(value, 2),
        Unit::NatsPerByte => fixed(value, 4),
        Unit::NatsPerToken | Unit::BitsPerByte | Unit::Plain => fixed(value, 3),
    }
}

/// A gain, with its sign where it is not 0.
pub(super) fn gain(unit: Unit, gain: f64) -> String {
    let text = value(unit, gain);
    if 0.0 < gain && text.bytes().any(|it| matches!(it, b'1'..=b'9')) {
        format!("+{text}")
    } else {
        text
    }
}

/// A number and its limit in the metric's unit, both with as many decimals as show all of the
/// limit and tell the two apart.
pub(super) fn side_by_side(unit: Unit, number: f64, limit: f64) -> (String, String) {
    let scale = if unit == Unit::Percent { 100.0 } else { 1.0 };
    let least = match unit {
        Unit::Percent | Unit::Points => 1,
        Unit::Nats => 2,
        Unit::NatsPerToken | Unit::BitsPerByte | Unit::Plain => 3,
        Unit::NatsPerByte => 4,
    };
    let texts = |decimals| [number, limit].map(|it| fixed(scale * it, decimals));
    let shows_all = |[number_text, limit_text]: &[String; 2]| {
        let shown: f64 = limit_text.parse().unwrap_or(f64::NAN);
        let is_whole = (shown - scale * limit).abs() <= 1e-9 * (scale * limit).abs();
        is_whole && (number_text != limit_text || number == limit)
    };
    let found = (least..=MAX_DECIMALS).map(texts).find(shows_all);
    let [number, limit] =
        found.unwrap_or_else(|| [number, limit].map(|it| (scale * it).to_string()));
    (number, limit)
}

/// An amount of loss or margin: no sign, the unit of differences behind it.
pub(super) fn amount(unit: Unit, size: f64) -> String {
    let unit_name = difference_unit(unit);
    let space = if unit_name.is_empty() { "" } else { " " };
    format!("{}{space}{unit_name}", value(unit, size.abs()))
}

/// Whether an amount is 0 as printed.
pub(super) fn is_zero(unit: Unit, size: f64) -> bool {
    !value(unit, size)
        .bytes()
        .any(|it| matches!(it, b'1'..=b'9'))
}

/// The unit of differences: percentage points for percentages.
pub(super) fn difference_unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Percent => "pp",
        other => other.as_str(),
    }
}

/// Rounded to so many decimals; a value that rounds to 0 has no sign.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|it| matches!(it, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

/// A share of a whole, such as `12 %`.
pub(super) fn share(part: usize, whole: usize) -> String {
    format!("{} %", fixed(100.0 * part as f64 / whole as f64, 0))
}

/// A duration: `14.1 s`, from two minutes on `2 min 5 s`, from two hours on `2 h 5 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if whole < 120 {
        format!("{} s", fixed(seconds, 1))
    } else if whole < 7_200 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3_600, whole % 3_600 / 60)
    }
}

/// A count with commas: `12,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A forecast, rounded up to two significant digits: 304 becomes `310`.
pub(super) fn about(n: u64) -> String {
    let mut step = 1;
    while 100 * step <= n {
        step *= 10;
    }
    count(n.div_ceil(step) * step)
}

/// `1 case`, `2 cases`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(n as u64))
}

/// Right-aligned values with their intervals right behind: `87.5 [80.4, 92.3]`.
///
/// `write` makes a text of a number. All texts have the same width; a row without a number has
/// a dash.
pub(super) fn aligned(
    rows: &[Option<(f64, Option<Interval>)>],
    write: impl Fn(f64) -> String,
) -> Vec<String> {
    let text = |row: &Option<(f64, Option<Interval>)>| {
        let (value, interval) = match row {
            Some((value, interval)) => (write(*value), *interval),
            None => (NOTHING.to_owned(), None),
        };
        (value, interval.map(|it| (write(it.low), write(it.high))))
    };
    let texts: Vec<(String, Option<(String, String)>)> = rows.iter().map(text).collect();
    let width = |text: &String| text.chars().count();
    let ends = || texts.iter().filter_map(|it| it.1.as_ref());
    let of_value = texts.iter().map(|it| width(&it.0)).max().unwrap_or(0);
    let of_low = ends().map(|it| width(&it.0)).max();
    let of_high = ends().map(|it| width(&it.1)).max();
    let (Some(of_low), Some(of_high)) = (of_low, of_high) else {
        return texts
            .into_iter()
            .map(|it| format!("{:>of_value$}", it.0))
            .collect();
    };
    let of_ends = of_low + of_high + " [, ]".len();
    let row = |(value, ends): (String, Option<(String, String)>)| match ends {
        Some((low, high)) => format!("{value:>of_value$} [{low:>of_low$}, {high:>of_high$}]"),
        None => format!("{value:>of_value$}{:of_ends$}", ""),
    };
    texts.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_decimals_of_its_unit() {
        for (unit, number, expected) in [
            (Unit::Percent, 0.875, "87.5"),
            (Unit::Percent, 1.0, "100.0"),
            (Unit::Points, 31.25, "31.2"),
            (Unit::Nats, -12.345, "-12.35"),
            (Unit::NatsPerToken, -2.5996, "-2.600"),
            (Unit::NatsPerByte, -0.43216, "-0.4322"),
            (Unit::BitsPerByte, 1.23456, "1.235"),
            (Unit::Plain, 0.125, "0.125"),
            (Unit::Plain, 123.45, "123.5"),
            (Unit::Plain, 12_345.6, "12346"),
            (Unit::Plain, 12_345_678.0, "1.23e7"),
            (Unit::Nats, f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(value(unit, number), expected, "{number} {unit:?}");
        }
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(value(Unit::Percent, -0.0001), "0.0");
        assert_eq!(gain(Unit::Percent, -0.0), "0.0");
        assert_eq!(gain(Unit::Percent, 0.0001), "0.0");
        assert_eq!(gain(Unit::NatsPerByte, -0.000_04), "0.0000");
        assert_eq!(gain(Unit::Percent, 0.058), "+5.8");
        assert_eq!(gain(Unit::Percent, -0.058), "-5.8");
        assert!(is_zero(Unit::Percent, 0.000_4) && !is_zero(Unit::Percent, 0.000_6));
    }

    #[test]
    fn times_and_counts_read_well() {
        assert_eq!(
            [0.04, 14.12, 119.4, 125.0, 7_500.0].map(seconds),
            ["0.0 s", "14.1 s", "119.4 s", "2 min 5 s", "2 h 5 min"]
        );
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [7, 99, 101, 304, 1_201].map(about),
            ["7", "99", "110", "310", "1,300"]
        );
        assert_eq!(
            (counted(1, "case"), counted(2, "case")),
            ("1 case".into(), "2 cases".into())
        );
        assert_eq!(amount(Unit::Percent, -0.01), "1.0 pp");
        assert_eq!(amount(Unit::Plain, 0.5), "0.500");
    }

    #[test]
    fn intervals_stand_under_each_other() {
        let interval = |low, high| Some(Interval { low, high });
        let rows = [
            Some((0.875, interval(0.804, 0.923))),
            Some((0.05, interval(0.0, 1.0))),
            Some((0.5, None)),
            None,
        ];
        let expected = [
            "87.5 [80.4,  92.3]",
            " 5.0 [ 0.0, 100.0]",
            "50.0              ",
            "   –              ",
        ];
        assert_eq!(aligned(&rows, |it| value(Unit::Percent, it)), expected);
        assert_eq!(
            aligned(&rows[2..], |it| value(Unit::Percent, it)),
            ["50.0", "   –"]
        );
    }
}
