//! Times in UTC, and the run ids made of them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A day and time in UTC, to the second.
struct Utc {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Utc {
    /// Times before 1970 count as its first second.
    fn of(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March here, so that a leap day is the last of its year; eras have
        // 400 years or 146,097 days (H. Hinnant, "chrono-Compatible Low-Level Date
        // Algorithms", civil_from_days).
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: (era * 400 + year_of_era + u64::from(month <= 2)).cast_signed(),
            month: month as u32,
            day: day as u32,
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }
}

/// A time as RFC 3339 in UTC, to the second: `2026-11-23T17:56:01Z`.
pub fn format_utc(time: SystemTime) -> String {
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Utc::of(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// An id for a run that starts now: `YYYYMMDD-HHMMSS-xxxx` in UTC.
///
/// The last four characters are the microsecond within the second, so that ids sort by
/// time: a run that computes nothing ends within the second it began in, and `latest` must
/// still be the latest. Where the clock does not lie behind `newest`, as after it was set back,
/// the id is the next one after `newest` instead.
pub fn new_run_id(newest: Option<&str>) -> String {
    later(run_id(SystemTime::now()), newest)
}

/// `now`, or the id after `newest` if that is greater; `now` too where no id is greater.
fn later(now: String, newest: Option<&str>) -> String {
    match newest.filter(|it| is_run_id(it) && now.as_str() <= *it) {
        None => now,
        Some(newest) => next(newest).unwrap_or(now),
    }
}

/// The next id in order, within the same second: there are more suffixes than microseconds.
fn next(id: &str) -> Option<String> {
    let (start, suffix) = id.split_at(id.len() - 4);
    let number = u32::from_str_radix(suffix, 36).ok()? + 1;
    (number < 36_u32.pow(4)).then(|| format!("{start}{}", in_base_36(number)))
}

fn run_id(time: SystemTime) -> String {
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Utc::of(time);
    let micros = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.subsec_micros());
    let suffix = in_base_36(micros);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{suffix}")
}

/// Four digits, which count to 1,679,615.
fn in_base_36(number: u32) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |power: u32| char::from(DIGITS[(number / 36_u32.pow(power) % 36) as usize]);
    [3, 2, 1, 0].map(digit).iter().collect()
}

/// Whether a folder's name is that of a run.
pub(super) fn is_run_id(name: &str) -> bool {
    let bytes = name.as_bytes();
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    bytes.len() == 20
        && digits(&bytes[..8])
        && bytes[8] == b'-'
        && digits(&bytes[9..15])
        && bytes[15] == b'-'
        && bytes[16..]
            .iter()
            .all(|it| it.is_ascii_digit() || it.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Expected texts from GNU date 9.1, `date -u -d @SECONDS --iso-8601=seconds`.
    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(
                format_utc(UNIX_EPOCH + Duration::from_secs(seconds)),
                expected
            );
        }
        assert_eq!(
            format_utc(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn ids_sort_by_time_and_differ() {
        let id = |micros| run_id(UNIX_EPOCH + Duration::from_micros(micros));
        assert_eq!(id(951_782_399_000_000), "20000228-235959-0000");
        // 999,999 = 21*36^3 + 15*36^2 + 21*36 + 27, with l = 21, f = 15, r = 27.
        assert_eq!(id(951_782_399_999_999), "20000228-235959-lflr");
        let mut ids = vec![new_run_id(None)];
        for _ in 0..5000 {
            ids.push(new_run_id(ids.last().map(String::as_str)));
        }
        assert!(
            ids.iter().is_sorted_by(|a, b| a < b),
            "each one is later than the one before"
        );
        assert!(ids.iter().all(|it| is_run_id(it)), "{ids:?}");
    }

    /// A clock that was set back makes no run older than those before it.
    #[test]
    fn ids_go_on_after_the_newest_when_the_clock_went_back() {
        let now = "20000228-235959-0000";
        for (newest, expected) in [
            (None, now),
            (Some("20000228-235958-lflr"), now),
            (Some(now), "20000228-235959-0001"),
            (Some("20991231-235959-09zz"), "20991231-235959-0a00"),
            // No folder that harness made is called so, and no id of that second is greater.
            (Some("20991231-235959-zzzz"), now),
            (Some("zzz"), now),
        ] {
            assert_eq!(later(now.to_owned(), newest), expected, "{newest:?}");
        }
    }

    #[test]
    fn only_ids_are_ids() {
        for name in [
            "20000228-235959-000",
            "20000228-235959-00A0",
            "2000x228-235959-0000",
            "",
        ] {
            assert!(!is_run_id(name), "{name}");
        }
    }
}
