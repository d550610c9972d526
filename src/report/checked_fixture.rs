//! One check of each kind for tests, held against a made-up baseline.

use std::sync::LazyLock;

use crate::compare::sketch;
use crate::compare::{self, Flip, FlipKind, RunComparison, RunsOptions};
use crate::experiment::OnInconclusive;
use crate::gate::{
    Check, Comparison, Forecast, Label, Limit, Need, Quantity, Reason, Relation, Rule, State,
    Unscored,
};
use crate::metric::Unit;

use super::checked::{Checked, CheckedGate, EditedGate, GatePlace, Unjudged};
use super::checks::CheckLine;
use super::comparison::Compared;

/// The candidate against its base, and against the first of the line.
static COMPARISONS: LazyLock<[RunComparison; 2]> = LazyLock::new(|| {
    let candidate = sketch::run("20260301-120000-cccc", 60, [0.0, -0.2]);
    let base = sketch::run("20260201-120000-bbbb", 60, [0.0, 0.1]);
    let first = sketch::run("20260101-120000-aaaa", 60, [0.1, 0.1]);
    let options = RunsOptions::default();
    [base, first].map(|it| compare::runs(&candidate, &it, &options).unwrap())
});

/// What the tests' reports are about; change it, then call [`Fixture::with`].
pub(super) struct Fixture {
    pub(super) file: String,
    pub(super) checks: Vec<Check>,
    pub(super) broken: Vec<Flip>,
    pub(super) comparison: RunComparison,
    pub(super) drift: RunComparison,
    pub(super) base: String,
    pub(super) new_variants: Vec<String>,
    pub(super) skipped: Vec<GatePlace>,
    pub(super) edited: Vec<EditedGate>,
    pub(super) own_line: Option<usize>,
    pub(super) is_incomplete: bool,
    pub(super) command: String,
}

/// A gain of `value` held against a drop of 0.02.
fn gain(quantity: Quantity, value: f64) -> Comparison {
    let comparison = Comparison {
        quantity,
        value,
        relation: Relation::AtLeast,
        limit: -0.02,
    };
    if comparison.is_true() {
        comparison
    } else {
        comparison.denied()
    }
}

pub(super) fn check(variant: &str, state: State, reasons: Vec<Reason>) -> Check {
    Check {
        is_clustered: false,
        label: Label {
            gate_index: 0,
            metric: "acc".to_owned(),
            model: "smol".to_owned(),
            variant: variant.to_owned(),
            reference: Some("baseline main".to_owned()),
        },
        rule: Rule {
            limit: Limit::MaxDrop(0.02),
            confidence: 0.95,
            on_inconclusive: OnInconclusive::Fail,
            max_failed: 0,
        },
        state,
        reasons,
        value: None,
        lower: None,
        upper: None,
        p_adjusted: None,
        n: 120,
        floor: Some(149),
        n_planned: 120,
        unscored: Unscored::default(),
        forecast: None,
    }
}

pub(super) fn failed(variant: &str) -> Check {
    let shown = Reason::Shown {
        comparison: gain(Quantity::Gain, -0.075),
        tested: 0.0,
        p_adjusted: 0.0042,
        significance: 0.05,
        n_checks: 9,
    };
    check(variant, State::Failed, vec![shown])
}

/// Passed, failed, inconclusive in three ways, unscored, gone, identical, and a second gate on the
/// first's metric.
fn checks() -> Vec<Check> {
    let lower = |value| gain(Quantity::Lower(0.95), value);
    let holds = Reason::Holds(lower(-0.011));
    let wide = Reason::TooWide(lower(-0.034));
    let few = Reason::TooFewUnits { n: 120, floor: 149 };
    let with = |on_inconclusive, variant, reason| {
        let mut check = check(variant, State::Inconclusive, vec![reason]);
        check.rule.on_inconclusive = on_inconclusive;
        check
    };
    let mut inconclusive = with(OnInconclusive::Fail, "terse", wide.clone());
    inconclusive.reasons.push(few.clone());
    inconclusive.forecast = Some(Forecast {
        need: Need::Units(304),
        floor: Some(149),
        spread: Some(0.3),
        is_assumed: true,
        smallest_difference: Some(0.077),
    });
    let unscored = Reason::TooManyUnscored {
        n: 3,
        max_failed: 0,
    };
    let mut all = vec![
        check("bare", State::Passed, vec![holds.clone()]),
        failed("few"),
        inconclusive,
        with(OnInconclusive::Warn, "chat", few),
        with(OnInconclusive::Pass, "long", wide),
        check("polite", State::Unscored, vec![unscored]),
        check("old", State::Failed, vec![Reason::Gone]),
        check("same", State::Passed, vec![Reason::Identical { n: 120 }]),
        check("bare", State::Passed, vec![holds]),
    ];
    all[8].label.gate_index = 1;
    all
}

pub(super) fn flip(id: &str, kind: FlipKind) -> Flip {
    let (before, after) = match kind {
        FlipKind::Broke | FlipKind::Worsened => (1.0, 0.0),
        FlipKind::Fixed | FlipKind::Improved => (0.0, 1.0),
    };
    Flip {
        example_id: id.to_owned(),
        metric: "acc".into(),
        before,
        after,
        kind,
    }
}

fn place(file: &str, line: usize) -> GatePlace {
    let file = file.to_owned();
    GatePlace { file, line }
}

impl Fixture {
    pub(super) fn new() -> Self {
        let [comparison, drift] = COMPARISONS.clone();
        Self {
            file: "prompts/sentiment.toml".to_owned(),
            checks: checks(),
            broken: vec![
                flip("r-007", FlipKind::Broke),
                flip("r-003", FlipKind::Fixed),
                flip("r-064", FlipKind::Broke),
            ],
            comparison,
            drift,
            base: "baseline main".to_owned(),
            new_variants: vec!["brand-new".to_owned()],
            skipped: vec![place("prompts/sentiment.toml", 33)],
            edited: [
                (place("prompts/sentiment.toml", 27), false),
                (place("../base/prompts/sentiment.toml", 26), true),
            ]
            .map(|(place, decides)| EditedGate { place, decides })
            .into(),
            own_line: Some(21),
            is_incomplete: false,
            command: "harness check prompts/sentiment.toml --against main".to_owned(),
        }
    }

    /// Calls `make` with what came of the checks; the flips are those of `few`.
    pub(super) fn with<T>(&self, make: impl FnOnce(&Checked<'_>) -> T) -> T {
        let one = |check| {
            let is_few = Check::clone(check).label.variant == "few";
            CheckedGate {
                line: CheckLine {
                    file: &self.file,
                    line: 21,
                    check,
                    unit: Unit::Percent,
                },
                own_line: self.own_line,
                against: &self.base,
                flip_unit: Unit::Percent,
                flips: if is_few { &self.broken } else { &[] },
            }
        };
        let checks: Vec<CheckedGate<'_>> = self.checks.iter().map(one).collect();
        make(&Checked {
            checks: &checks,
            compared: Compared {
                comparison: &self.comparison,
                flips: &[],
                is_complete: false,
            },
            base: &self.base,
            new_variants: &self.new_variants,
            skipped: &self.skipped,
            edited: &self.edited,
            is_incomplete: self.is_incomplete,
            drift: Some(&self.drift),
            command: &self.command,
            version: "1.2.3",
        })
    }

    /// One failed check, with `text` wherever a text from data, a model or a file stands.
    pub(super) fn of_text(text: &str) -> Self {
        let mut fixture = Self::new();
        let mut check = failed("few");
        check.label.metric = text.to_owned();
        check.label.model = text.to_owned();
        check.label.reference = Some(text.to_owned());
        check.reasons.push(Reason::NotComparable {
            why: text.to_owned(),
        });
        fixture.checks = vec![check];
        let mut broken = flip(text, FlipKind::Worsened);
        broken.metric = text.into();
        fixture.broken = vec![broken];
        fixture.file = text.to_owned();
        fixture.base = text.to_owned();
        fixture.command = text.to_owned();
        fixture.new_variants = vec![text.to_owned()];
        fixture.skipped = vec![place(text, 33)];
        for it in &mut fixture.edited {
            it.place = place(text, 27);
        }
        for it in [&mut fixture.comparison, &mut fixture.drift] {
            it.primary = text.to_owned();
            for name in [&mut it.candidate, &mut it.reference] {
                name.experiment = text.to_owned();
                name.run = text.to_owned();
            }
            for row in &mut it.comparisons {
                row.metric = text.to_owned();
                row.cells.candidate_model = text.to_owned();
                row.cells.candidate = text.to_owned();
            }
        }
        fixture
    }
}

/// A check that was refused, with `text` wherever a text from outside stands.
pub(super) fn unjudged(text: &str) -> Unjudged<'_> {
    Unjudged {
        file: text,
        state: "refused",
        why: text,
        hint: Some(text),
        command: text,
        version: "1.2.3",
    }
}

/// Texts that mean something to Markdown, HTML, XML, GitHub or its runner.
pub(super) const PAYLOADS: [&str; 22] = [
    "a|b\\|c\\",
    "`",
    "``a```b`",
    " ",
    "",
    "a\n\n# heading\n| x |",
    "\r\n::error::x",
    "::error file=a,line=1::x%0A::warning::y",
    "##[error]x",
    "@octocat and a@b.example",
    "#1 GH-1 owner/repo#1",
    "https://example.org www.example.org",
    "<img src=x onerror=alert(1)>",
    "</code></summary></details><script>",
    "<!-- --> ]]> <![CDATA[",
    "&lt;&#64;&amp;",
    "![x](https://example.org/x.png) [x]: y",
    "**a** _b_ ~c~",
    "\u{1b}[31mred\u{9b}0m\u{0}\u{7f}",
    "\u{202e}gpj.exe\u{2066}\u{200b}\u{feff}",
    "\u{fffe}\u{ffff}\u{85}\u{2028}",
    "日本語 Größe 👩\u{200d}👧",
];
