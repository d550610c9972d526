//! Draws progress on stderr: bars on a terminal, plain lines elsewhere.
//!
//! What to say and when is decided in [`super::progress`]. Whatever ends a value of these
//! types takes its bars off the screen, so an error is never printed among them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::Verbosity;
use super::output::{self, Stream};
use super::progress::{self, Clock, Group, Kind, Meter, Pace};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// How progress is shown in this process.
pub(crate) fn kind(verbosity: Verbosity) -> Kind {
    Kind::choose(verbosity, !ProgressDrawTarget::stderr().is_hidden())
}

/// The progress of a run: a bar for each variant on each model, and one for all.
#[derive(Debug)]
pub(crate) struct Bars {
    drawing: Drawing,
    groups: Vec<Group>,
    meter: Meter,
    clock: Rc<Clock>,
}

#[derive(Debug)]
enum Drawing {
    Silent,
    Lines(Pace),
    Bars {
        multi: MultiProgress,
        /// In the order of the groups; empty where the terminal is too low for them.
        each: Vec<ProgressBar>,
        total: ProgressBar,
    },
}

impl Bars {
    /// Nothing of `groups` is done; `clock` runs since the work began.
    pub(crate) fn new(kind: Kind, groups: &[Group], clock: Rc<Clock>) -> Self {
        let n_answers = groups.iter().map(|it| it.n_answers).sum();
        let drawing = match kind {
            Kind::Silent => Drawing::Silent,
            Kind::Lines => Drawing::Lines(Pace::starting(clock.now())),
            Kind::Bars => bars(groups, n_answers),
        };
        Self {
            drawing,
            groups: groups.to_vec(),
            meter: Meter::new(n_answers),
            clock,
        }
    }

    /// An answer for this model and variant, by their indices in the plan, is done.
    pub(crate) fn answered(&mut self, model: usize, variant: usize, from_store: bool) {
        let now = self.clock.now();
        self.meter.answered(from_store, now);
        self.moved(model, variant, now);
    }

    /// An answer for this model and variant will never come.
    pub(crate) fn refused(&mut self, model: usize, variant: usize) {
        self.meter.refused();
        self.moved(model, variant, self.clock.now());
    }

    /// Shows that one more of a group is done with.
    fn moved(&mut self, model: usize, variant: usize, now: Duration) {
        match &mut self.drawing {
            Drawing::Silent => {}
            Drawing::Lines(pace) => {
                if pace.is_due(self.meter.n_done(), self.meter.n_total(), now) {
                    output::note(&self.meter.line());
                }
            }
            Drawing::Bars { each, total, .. } => {
                let is_it = |it: &Group| it.model == model && it.variant == variant;
                if let Some(bar) = self
                    .groups
                    .iter()
                    .position(is_it)
                    .and_then(|it| each.get(it))
                {
                    bar.inc(1);
                }
                total.inc(1);
                total.set_message(self.meter.message());
            }
        }
    }

    /// Takes the bars away while `write` writes to the terminal.
    pub(crate) fn above<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.drawing {
            Drawing::Bars { multi, .. } => multi.suspend(write),
            Drawing::Silent | Drawing::Lines(_) => write(),
        }
    }

    /// Takes the bars off the screen; the results speak now.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Drawing::Bars { each, total, .. } = &self.drawing {
            for bar in each.iter().chain([total]) {
                bar.finish_and_clear();
            }
        }
    }
}

fn bars(groups: &[Group], n_answers: u64) -> Drawing {
    let multi = MultiProgress::new();
    let n_lines = Stream::Stderr.size().map_or(0, |(_, lines)| lines);
    let labels = progress::labels(groups);
    let width = labels
        .first()
        .map_or(0, |it| it.chars().count())
        .max("all".len());
    let bar = |length: u64, label: &str, template: &str| {
        let style = ProgressStyle::with_template(template)
            .expect("the templates below are valid")
            .progress_chars("█░");
        let bar = ProgressBar::new(length)
            .with_style(style)
            .with_prefix(format!("{label:width$}"));
        let bar = multi.add(bar);
        bar.tick(); // Shown from the start, so that the others do not move later.
        bar
    };
    let each = if progress::has_room(groups.len(), n_lines) {
        let template = "    {prefix} {bar:24} {pos}/{len}";
        groups
            .iter()
            .zip(&labels)
            .map(|(it, label)| bar(it.n_answers, label, template))
            .collect()
    } else {
        Vec::new()
    };
    let total = bar(
        n_answers,
        "all",
        "  {spinner} {prefix} {bar:24} {pos}/{len}  {wide_msg}",
    );
    total.enable_steady_tick(TICK); // One batch can take seconds; the spinner says it lives.
    Drawing::Bars { multi, each, total }
}

/// Something that takes a while and has no steps, such as loading weights.
#[derive(Debug)]
pub(crate) struct Waiting(Option<ProgressBar>);

impl Waiting {
    /// Says `what` is being done, until the value is dropped.
    pub(crate) fn start(kind: Kind, what: &str) -> Self {
        match kind {
            Kind::Silent => Self(None),
            Kind::Lines => {
                output::note(what);
                Self(None)
            }
            Kind::Bars => {
                let style = ProgressStyle::with_template("  {spinner} {wide_msg}")
                    .expect("the template is valid");
                let spinner = ProgressBar::new_spinner()
                    .with_style(style)
                    .with_message(output::harmless(what));
                spinner.enable_steady_tick(TICK);
                Self(Some(spinner))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.0 {
            spinner.finish_and_clear();
        }
    }
}

/// The progress of fetching a file; shows nothing until there is some.
#[derive(Debug)]
pub(crate) struct Download {
    kind: Kind,
    name: String,
    /// What is being done now, with its bar or the pace of its lines.
    stage: Option<(&'static str, Option<ProgressBar>, Pace)>,
    start: Instant,
}

impl Download {
    /// The fetch of `name`, which may turn out to be there already.
    pub(crate) fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            stage: None,
            start: Instant::now(),
        }
    }

    /// `verb` (such as `fetching`) has come to `n_bytes` of about `total_bytes`.
    pub(crate) fn update(&mut self, verb: &'static str, n_bytes: u64, total_bytes: u64) {
        let now = self.start.elapsed();
        if self
            .stage
            .as_ref()
            .is_none_or(|(current, ..)| *current != verb)
        {
            self.clear();
            let bar = (self.kind == Kind::Bars).then(|| self.bar(verb, total_bytes));
            self.stage = Some((verb, bar, Pace::starting(now)));
        }
        let Some((_, bar, pace)) = &mut self.stage else {
            return;
        };
        if let Some(bar) = bar {
            bar.set_message(format!(
                "{} of {}",
                progress::bytes(n_bytes),
                progress::bytes(total_bytes)
            ));
            bar.set_position(n_bytes);
        }
        if self.kind == Kind::Lines && pace.is_due(n_bytes, total_bytes, now) {
            let (percent, total) = (
                progress::percent(n_bytes, total_bytes),
                progress::bytes(total_bytes),
            );
            output::note(&format!("{verb} {}: {percent} % of {total}", self.name));
        }
    }

    fn bar(&self, verb: &str, total_bytes: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("  {spinner} {prefix} {bar:24} {wide_msg}")
            .expect("the template is valid")
            .progress_chars("█░");
        let label = output::harmless(&format!("{verb} {}", self.name));
        let bar = ProgressBar::new(total_bytes)
            .with_style(style)
            .with_prefix(label);
        bar.enable_steady_tick(TICK);
        bar
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&mut self) {
        if let Some((_, Some(bar), _)) = &self.stage {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.clear();
    }
}
