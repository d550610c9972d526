//! Times in UTC, and the run ids made of them.

use std::sync::atomic::{AtomicU64, Ordering};
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
/// The last four characters tell apart runs that start in the same second; they come from
/// the time, the process and a counter, so ids differ within a process in all likelihood and
/// between processes too.
pub fn new_run_id() -> String {
    static N_MADE: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now();
    let nanos = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos());
    let mut hash = blake3::Hasher::new();
    hash.update(&nanos.to_le_bytes());
    hash.update(&std::process::id().to_le_bytes());
    hash.update(&N_MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    run_id(now, hash.finalize().as_bytes())
}

fn run_id(time: SystemTime, random: &[u8; 32]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Utc::of(time);
    // Two bytes a digit: 65,536 is no multiple of 36, but the bias is below a thousandth.
    let digit = |pair: &[u8; 2]| char::from(DIGITS[usize::from(u16::from_le_bytes(*pair)) % 36]);
    let suffix: String = random.as_chunks().0.iter().take(4).map(digit).collect();
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{suffix}")
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
        let id = run_id(UNIX_EPOCH + Duration::from_secs(951_782_399), &[0; 32]);
        assert_eq!(id, "20000228-235959-0000");
        let ids: std::collections::HashSet<String> = (0..50).map(|_| new_run_id()).collect();
        // 50 draws of 36^4: two equal ones within a second with probability 0.0007; the set may
        // miss one without being wrong, but not two.
        assert!(49 <= ids.len(), "{ids:?}");
        assert!(ids.iter().all(|it| is_run_id(it)), "{ids:?}");
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
