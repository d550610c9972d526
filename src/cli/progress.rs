//! Progress: how far a run has come, and what to say about it when.
//!
//! Everything here is decided from counts and a clock that the caller reads, and nothing
//! is printed: [`super::draw`] does that. On a terminal there are bars; elsewhere a plain
//! line after each 5 % or 30 s, so that a log neither overflows nor looks dead; with `-q`
//! nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::args::Verbosity;

/// Without news for this long, a line is written whatever was done.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// Lines are at least this far apart, but for the last one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A line is written after each such part of the whole.
const N_LINES: u64 = 20;
/// The longest label of a bar, in characters.
const MAX_LABEL_CHARS: usize = 32;
/// Lines of a terminal that bars leave for everything else.
const LINES_LEFT_FREE: usize = 4;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bars that move, on a terminal.
    Bars,
    /// Plain lines now and then.
    Lines,
    /// Not at all.
    Silent,
}

impl Kind {
    /// `can_draw` says whether stderr is a terminal whose cursor can be moved.
    pub(super) fn choose(verbosity: Verbosity, can_draw: bool) -> Self {
        match (verbosity, can_draw) {
            (Verbosity::Quiet, _) => Self::Silent,
            (_, true) => Self::Bars,
            (_, false) => Self::Lines,
        }
    }
}

/// The answers of one variant on one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Index of the model in the plan.
    pub(crate) model: usize,
    /// Index of the variant in the plan.
    pub(crate) variant: usize,
    /// Name of the model.
    pub(crate) model_name: String,
    /// Name of the variant.
    pub(crate) variant_name: String,
    /// Cases in it, over all repeats.
    pub(crate) n_answers: u64,
}

/// A label for each group, all of one width: the variant, after the model if there are several.
pub(super) fn labels(groups: &[Group]) -> Vec<String> {
    let one_model = groups.iter().all(|it| it.model == groups[0].model);
    let names: Vec<String> = groups
        .iter()
        .map(|it| {
            let model = if one_model {
                String::new()
            } else {
                format!("{} · ", it.model_name)
            };
            shortened(&format!("{model}{}", it.variant_name))
        })
        .collect();
    let longest = names.iter().map(|it| it.chars().count()).max().unwrap_or(0);
    names
        .into_iter()
        .map(|it| format!("{it:longest$}"))
        .collect()
}

/// The label, its middle left out if it is too long: ends tell variants apart.
fn shortened(label: &str) -> String {
    let chars: Vec<char> = label.chars().collect();
    if chars.len() <= MAX_LABEL_CHARS {
        return label.to_owned();
    }
    let n_front = MAX_LABEL_CHARS / 2;
    let n_back = MAX_LABEL_CHARS - n_front - 1;
    let front = chars[..n_front].iter();
    front
        .chain(&['…'])
        .chain(&chars[chars.len() - n_back..])
        .collect()
}

/// Whether a terminal of so many lines has room for a bar per group besides the total.
pub(super) fn has_room(n_groups: usize, n_lines: usize) -> bool {
    n_groups + 1 + LINES_LEFT_FREE <= n_lines
}

/// Tells the time that goes into answers: all since the start but what is left out.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    left_out: Cell<Duration>,
}

impl Clock {
    /// Starts at 0.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            left_out: Cell::default(),
        }
    }

    /// So much time, which is over, went into something else.
    pub(crate) fn leave_out(&self, time: Duration) {
        self.left_out.set(self.left_out.get() + time);
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.left_out.get())
    }
}

/// Counts what is done and knows what is left.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    n_total: u64,
    n_done: u64,
    n_stored: u64,
    /// Answers that will never come, because they cannot be asked for.
    n_refused: u64,
    /// Time that went into the answers that were computed.
    busy: Duration,
    /// When a case was done last.
    last_done: Duration,
}

impl Meter {
    /// Nothing of `n_total` answers is done at the time 0.
    pub(super) fn new(n_total: u64) -> Self {
        Self {
            n_total,
            n_done: 0,
            n_stored: 0,
            n_refused: 0,
            busy: Duration::ZERO,
            last_done: Duration::ZERO,
        }
    }

    /// A case was done at the time `now`.
    ///
    /// Stored answers cost next to no time, so only the time up to a computed case counts
    /// for the rate.
    pub(super) fn answered(&mut self, from_store: bool, now: Duration) {
        self.n_done += 1;
        if from_store {
            self.n_stored += 1;
        } else {
            self.busy += now.saturating_sub(self.last_done);
        }
        self.last_done = now;
    }

    /// An answer will never come; it is done with, and took no time.
    pub(super) fn refused(&mut self) {
        self.n_done += 1;
        self.n_refused += 1;
    }

    /// Cases done.
    pub(super) fn n_done(&self) -> u64 {
        self.n_done
    }

    /// All answers.
    pub(super) fn n_total(&self) -> u64 {
        self.n_total
    }

    /// Cases computed per second; `None` before that means anything.
    fn rate(&self) -> Option<f64> {
        let n_computed = self.n_done - self.n_stored - self.n_refused;
        let is_known = 0 < n_computed && Duration::from_secs(1) <= self.busy;
        is_known.then(|| n_computed as f64 / self.busy.as_secs_f64())
    }

    /// Time until the end if the rest is computed at the same rate. An estimate: prompts
    /// differ in length.
    fn time_left(&self) -> Option<Duration> {
        let n_left = self.n_total.saturating_sub(self.n_done);
        let seconds = n_left as f64 / self.rate()?;
        (0 < n_left).then(|| Duration::from_secs_f64(seconds))
    }

    /// `38 answers/s, 3 s left, 12 from the store`, as far as it is known.
    pub(super) fn message(&self) -> String {
        let rate = self.rate().map(|it| format!("{} answers/s", rounded(it)));
        let left = self.time_left().map(|it| format!("{} left", duration(it)));
        let stored = (0 < self.n_stored).then(|| format!("{} from the store", self.n_stored));
        let n_refused = self.n_refused;
        let refused = (0 < n_refused).then(|| format!("{n_refused} cannot be asked for"));
        [rate, left, stored, refused]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// `180 of 240 answers (75 %), 38 answers/s, 3 s left`.
    pub(super) fn line(&self) -> String {
        let percent = percent(self.n_done, self.n_total);
        let message = self.message();
        let comma = if message.is_empty() { "" } else { ", " };
        format!(
            "{} of {} answers ({percent} %){comma}{message}",
            self.n_done, self.n_total
        )
    }
}

/// Decides when a plain line is due.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    last_at: Duration,
    last_done: u64,
}

impl Pace {
    /// Nothing is done at the time `now`.
    pub(super) fn starting(now: Duration) -> Self {
        Self {
            last_at: now,
            last_done: 0,
        }
    }

    /// Whether to write a line now that `n_done` of `n_total` are done at the time `now`.
    ///
    /// If so, the line counts as written. The end is always worth a line, once.
    pub(super) fn is_due(&mut self, n_done: u64, n_total: u64, now: Duration) -> bool {
        let silence = now.saturating_sub(self.last_at);
        let n_new = n_done.saturating_sub(self.last_done);
        let is_end = n_done == n_total && 0 < n_new;
        let is_step = 0 < n_new && n_total <= n_new.saturating_mul(N_LINES);
        let is_due = is_end || LONGEST_SILENCE <= silence || (is_step && SHORTEST_PAUSE <= silence);
        if is_due {
            *self = Self {
                last_at: now,
                last_done: n_done,
            };
        }
        is_due
    }
}

/// Whole percent, rounded down, so that 100 means all.
pub(super) fn percent(n_done: u64, n_total: u64) -> u64 {
    n_done
        .saturating_mul(100)
        .checked_div(n_total)
        .unwrap_or(100)
}

/// Two digits, or all before the point.
fn rounded(rate: f64) -> String {
    match rate {
        ..1.0 => format!("{rate:.2}"),
        1.0..10.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

/// `3 s`, `2 min 10 s`, `1 h 5 min`; rounded up, so that it is 0 only at the end.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(0 < time.subsec_nanos());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// `98.4 MB`; a megabyte is a million bytes.
pub(crate) fn bytes(n_bytes: u64) -> String {
    match n_bytes {
        ..1_000 => format!("{n_bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", n_bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n_bytes as f64 / 1e6),
        _ => format!("{:.1} GB", n_bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn group(model: usize, model_name: &str, variant_name: &str) -> Group {
        Group {
            model,
            variant: 0,
            model_name: model_name.to_owned(),
            variant_name: variant_name.to_owned(),
            n_answers: 1,
        }
    }

    #[test]
    fn progress_fits_where_it_is_written() {
        for (verbosity, can_draw, expected) in [
            (Verbosity::Normal, true, Kind::Bars),
            (Verbosity::Verbose, true, Kind::Bars),
            (Verbosity::Normal, false, Kind::Lines),
            (Verbosity::Quiet, true, Kind::Silent),
            (Verbosity::Quiet, false, Kind::Silent),
        ] {
            assert_eq!(Kind::choose(verbosity, can_draw), expected);
        }
        assert!(has_room(4, 24) && !has_room(40, 24));
    }

    #[test]
    fn labels_name_the_model_only_if_there_are_several() {
        let one = [group(0, "smol", "bare"), group(0, "smol", "instruction")];
        assert_eq!(labels(&one), ["bare       ", "instruction"]);
        let two = [group(0, "smol", "bare"), group(1, "big", "bare")];
        assert_eq!(labels(&two), ["smol · bare", "big · bare "]);
        assert!(labels(&[]).is_empty());
    }

    #[test]
    fn a_long_label_keeps_its_ends() {
        let name = format!("{}-{}", "a".repeat(40), "b".repeat(15));
        // 32 characters: 16 from the front, the mark, 15 from the back.
        assert_eq!(
            shortened(&name),
            format!("{}…{}", "a".repeat(16), "b".repeat(15))
        );
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn stored_answers_do_not_make_the_rate_look_better() {
        let mut meter = Meter::new(100);
        for _ in 0..60 {
            meter.answered(true, at(0.5));
        }
        assert_eq!(meter.line(), "60 of 100 answers (60 %), 60 from the store");
        // 20 answers in 10 s are 2 answers/s; the 20 that are left take 10 s.
        for i in 1..=20 {
            meter.answered(false, at(0.5 + f64::from(i) / 2.0));
        }
        assert_eq!(
            meter.line(),
            "80 of 100 answers (80 %), 2.0 answers/s, 10 s left, 60 from the store"
        );
        for _ in 0..20 {
            meter.answered(true, at(10.5));
        }
        assert_eq!(
            meter.line(),
            "100 of 100 answers (100 %), 2.0 answers/s, 80 from the store"
        );
    }

    /// A prompt that is too long has no answer, and the bar comes to its end all the same.
    #[test]
    fn what_cannot_be_asked_for_is_done_with() {
        let mut meter = Meter::new(4);
        meter.refused();
        meter.answered(false, at(2.0));
        meter.refused();
        // One answer in 2 s, and one is left.
        assert_eq!(
            meter.line(),
            "3 of 4 answers (75 %), 0.50 answers/s, 2 s left, 2 cannot be asked for"
        );
        meter.answered(false, at(4.0));
        assert_eq!((meter.n_done(), meter.time_left()), (4, None));
    }

    /// What comes before the first answer will come before later ones too.
    #[test]
    fn the_time_before_the_first_answer_counts_but_for_what_is_left_out() {
        let clock = Clock::start();
        clock.leave_out(Duration::from_hours(1));
        assert_eq!(clock.now(), Duration::ZERO, "loading weights is no answer");
        let mut meter = Meter::new(100);
        meter.answered(false, at(10.0));
        meter.answered(false, at(10.0));
        assert_eq!(
            meter.message(),
            "0.20 answers/s, 8 min 10 s left",
            "2 in 10 s, not 2 at once"
        );
    }

    #[test]
    fn no_rate_is_told_before_there_is_one() {
        let mut meter = Meter::new(100);
        assert_eq!(meter.message(), "");
        meter.answered(false, at(0.1));
        assert_eq!(
            meter.line(),
            "1 of 100 answers (1 %)",
            "one case in 0.1 s says little"
        );
    }

    /// The times at which lines are written if case `i` of `n` is done at `time(i)`.
    fn lines(n: u64, time: impl Fn(u64) -> f64) -> Vec<(u64, f64)> {
        let mut pace = Pace::starting(Duration::ZERO);
        let due = |i: &u64| pace.is_due(*i, n, at(time(*i)));
        (1..=n).filter(due).map(|i| (i, time(i))).collect()
    }

    #[test]
    fn a_log_gets_a_line_per_5_percent() {
        // 1000 answers in 1000 s: 5 % are 50 s, but 30 s of silence are the longest.
        let slow = lines(1000, |i| i as f64);
        assert_eq!(slow[..3], [(30, 30.0), (60, 60.0), (90, 90.0)]);
        // 1000 answers in 100 s: every 50 answers, which take 5 s; 20 lines.
        let medium = lines(1000, |i| i as f64 / 10.0);
        assert_eq!(medium[..2], [(50, 5.0), (100, 10.0)]);
        assert_eq!((medium.len(), medium[19]), (20, (1000, 100.0)));
    }

    #[test]
    fn a_fast_run_writes_its_last_line_only() {
        assert_eq!(lines(1000, |i| i as f64 / 10_000.0), [(1000, 0.1)]);
        assert_eq!(lines(1, |_| 0.0), [(1, 0.0)]);
    }

    #[test]
    fn standing_still_is_told_every_30_seconds_and_the_end_once() {
        let mut pace = Pace::starting(Duration::ZERO);
        let mut due = |n_done, seconds| pace.is_due(n_done, 100, at(seconds));
        assert!(!due(0, 29.0));
        assert!(due(0, 30.0));
        assert!(!due(0, 31.0));
        assert!(due(100, 31.5));
        assert!(!due(100, 32.0));
    }

    #[test]
    fn quantities_read_well() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.2, "1 s"),
            (59.5, "1 min 0 s"),
            (130.0, "2 min 10 s"),
            (3900.0, "1 h 5 min"),
        ] {
            assert_eq!(duration(at(seconds)), expected);
        }
        for (n_bytes, expected) in [
            (999, "999 bytes"),
            (1_500, "1.5 kB"),
            (98_362_432, "98.4 MB"),
            (5_000_000_000, "5.0 GB"),
        ] {
            assert_eq!(bytes(n_bytes), expected);
        }
        assert_eq!([0.123, 2.04, 38.4].map(rounded), ["0.12", "2.0", "38"]);
        assert_eq!([percent(199, 200), percent(0, 0)], [99, 100]);
    }
}
