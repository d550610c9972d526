//! The variants of one model from best to worst, and what may be said of their order.

use crate::compare::Comparison;
use crate::stats::{Direction, Estimate, Interval, Method, Verdict};

use super::number;
use super::{ModelInput, ReportInput};

/// How a variant stands to the best one, or to the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The best value; there is no control.
    Best,
    /// The variant that the others are held against.
    Control,
    /// Better, and not by luck.
    Better,
    /// Equal within the margin, or by construction.
    Unchanged,
    /// The data does not say.
    Inconclusive,
    /// Worse, and not by luck.
    Worse,
    /// There is no difference that could be told.
    NotCompared,
    /// Nothing is said: the run is unfinished, or the variant is the only one.
    Unjudged,
}

impl Standing {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Control => "control",
            Self::Better => "better",
            Self::Unchanged => "unchanged",
            Self::Inconclusive => "inconclusive",
            Self::Worse => "worse",
            Self::NotCompared => "not_compared",
            Self::Unjudged => "unjudged",
        }
    }

    /// The sign in a table.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Best => "★",
            Self::Control => "●",
            Self::Better => "▲",
            Self::Unchanged => "=",
            Self::Inconclusive => "≈",
            Self::Worse => "▼",
            Self::NotCompared => "?",
            Self::Unjudged => "",
        }
    }
}

/// The variants of one model in order of the primary metric.
pub(super) struct Ranking<'a> {
    pub(super) input: &'a ReportInput,
    pub(super) model: &'a ModelInput,
    /// From best to worst; those without a value last.
    pub(super) places: Vec<Place<'a>>,
    /// The variant that gains are measured against: the control, or the best.
    pub(super) reference: Option<usize>,
}

/// One variant in a ranking.
pub(super) struct Place<'a> {
    pub(super) variant: usize,
    pub(super) estimate: Option<Estimate>,
    pub(super) standing: Standing,
    /// Over the reference; positive is better.
    pub(super) gain: Option<f64>,
    pub(super) interval: Option<Interval>,
    pub(super) comparison: Option<&'a Comparison>,
}

impl<'a> Ranking<'a> {
    /// Ranks the variants of `model`, which is one of `input`'s.
    pub(super) fn new(input: &'a ReportInput, model: &'a ModelInput) -> Self {
        let sign = match input.primary().direction {
            Direction::HigherIsBetter => 1.0,
            Direction::LowerIsBetter => -1.0,
        };
        let estimate =
            |variant: usize| model.variants[variant].measurements[input.primary].estimate;
        let key =
            |variant: usize| estimate(variant).map_or(f64::NEG_INFINITY, |it| sign * it.value);
        let mut order: Vec<usize> = (0..model.variants.len()).collect();
        // Stable, so that equals stay in plan order.
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)));
        let best = order.first().copied().filter(|it| estimate(*it).is_some());
        let is_judged = input.status.is_finished() && 1 < order.len();
        let reference = input.control.or(best).filter(|_| is_judged);
        let place = |variant: usize| {
            let estimate = estimate(variant);
            let unjudged = Place {
                variant,
                estimate,
                standing: Standing::Unjudged,
                gain: None,
                interval: None,
                comparison: None,
            };
            let Some(reference) = reference else {
                return Place {
                    estimate: estimate.map(|it| withheld(it, input)),
                    ..unjudged
                };
            };
            if variant == reference {
                let is_control = input.control.is_some();
                let standing = if is_control {
                    Standing::Control
                } else {
                    Standing::Best
                };
                return Place {
                    standing,
                    ..unjudged
                };
            }
            compared(input, model, reference, &unjudged)
        };
        let places = order.into_iter().map(place).collect();
        Self {
            input,
            model,
            places,
            reference,
        }
    }

    /// The places with a standing.
    pub(super) fn standing(&self, standing: Standing) -> impl Iterator<Item = &Place<'a>> {
        self.places.iter().filter(move |it| it.standing == standing)
    }

    pub(super) fn name(&self, variant: usize) -> &'a str {
        &self.model.variants[variant].name
    }

    /// What the marks of the table mean; empty without any.
    pub(super) fn legend(&self) -> String {
        let has_control = self.input.control.is_some();
        let meaning = |standing: Standing| match (standing, has_control) {
            (Standing::Best, _) => "best",
            (Standing::Control, _) => "control",
            (Standing::Better, true) => "better than the control",
            (Standing::Better, false) => "better on the examples that both scored",
            (Standing::Unchanged, _) => "unchanged",
            (Standing::Inconclusive, true) => "not distinguishable from the control",
            (Standing::Inconclusive, false) => "not distinguishable from the best",
            (Standing::Worse, true) => "worse than the control",
            (Standing::Worse, false) => "worse",
            (Standing::NotCompared, _) => "not compared",
            (Standing::Unjudged, _) => "",
        };
        let shown = [
            Standing::Best,
            Standing::Control,
            Standing::Better,
            Standing::Unchanged,
            Standing::Inconclusive,
            Standing::Worse,
            Standing::NotCompared,
        ];
        let present = shown
            .into_iter()
            .filter(|it| self.standing(*it).next().is_some());
        let marks: Vec<String> = present
            .map(|it| format!("{} {}", it.mark(), meaning(it)))
            .collect();
        let is_tested =
            |it: &&Comparison| it.metric == self.input.primary && it.p_adjusted.is_some();
        let test = match self.model.comparisons.iter().filter(is_tested).count() {
            0 => "",
            1 => " (p ≤ 0.05)",
            n => &format!(" (p ≤ 0.05, Holm over {n} pairs)"),
        };
        if marks.is_empty() {
            String::new()
        } else {
            format!("{}{test}", marks.join("  "))
        }
    }

    /// The outcome in plain words.
    pub(super) fn sentence(&self) -> String {
        if !self.input.status.is_finished() {
            let status = self.input.status.as_str();
            let n_cases = number::count(self.input.n_cases() as u64);
            let planned = number::counted(self.input.n_planned_cases, "case");
            return format!(
                "The run is {status} with {n_cases} of {planned} done: values only, no intervals \
                 and no verdicts."
            );
        }
        let Some(reference) = self.reference else {
            return match self.places.len() {
                0 | 1 => "One variant, so there is nothing to compare.".to_owned(),
                _ => "No variant has a value, so there is nothing to compare.".to_owned(),
            };
        };
        let name = self.name(reference);
        let mut clauses = match self.input.control {
            Some(_) => vec![format!(
                "Against {name}: {}",
                self.against_control().join(", ")
            )],
            None => self.against_best(name),
        };
        let too_few = self.too_few();
        if !too_few.is_empty() {
            let noun = self.input.unit_noun();
            let is = are(&too_few);
            let names = listed(&too_few);
            clauses.push(format!(
                "{names} {is} not judged with fewer than 10 {noun}s"
            ));
        }
        clauses.extend(self.settle());
        let not_compared: Vec<&str> = self.names(Standing::NotCompared);
        if !not_compared.is_empty() {
            clauses.push(format!("{} could not be compared", listed(&not_compared)));
        }
        clauses.join("; ") + "."
    }

    fn names(&self, standing: Standing) -> Vec<&'a str> {
        self.standing(standing)
            .map(|it| self.name(it.variant))
            .collect()
    }

    /// Names of the variants whose difference has an interval around 0.
    fn within_noise(&self) -> Vec<&'a str> {
        let has_interval = |it: &&Place<'_>| it.interval.is_some();
        let places = self.standing(Standing::Inconclusive).filter(has_interval);
        places.map(|it| self.name(it.variant)).collect()
    }

    fn too_few(&self) -> Vec<&'a str> {
        let has_none = |it: &&Place<'_>| it.interval.is_none();
        let places = self.standing(Standing::Inconclusive).filter(has_none);
        places.map(|it| self.name(it.variant)).collect()
    }

    fn against_best(&self, best: &str) -> Vec<String> {
        let within = self.within_noise();
        let worse = self.names(Standing::Worse);
        let mut clauses = if within.is_empty() {
            vec![format!("Best: {best}")]
        } else {
            let is = are(&within);
            vec![format!(
                "Best: {best}, but {} {is} within noise",
                listed(&within)
            )]
        };
        if within.is_empty() && !worse.is_empty() {
            clauses.push(format!(
                "{} {} worse beyond noise",
                listed(&worse),
                are(&worse)
            ));
        }
        clauses.extend(self.unchanged());
        let better = self.names(Standing::Better);
        if !better.is_empty() {
            let (names, is) = (listed(&better), are(&better));
            clauses.push(format!(
                "{names} {is} better on the examples that both scored"
            ));
        }
        clauses
    }

    fn against_control(&self) -> Vec<String> {
        let unit = self.input.primary().unit;
        let mut clauses = Vec::new();
        for (standing, word) in [(Standing::Better, "better"), (Standing::Worse, "worse")] {
            for place in self.standing(standing) {
                let by = place
                    .gain
                    .map(|it| format!(" by {}", number::amount(unit, it)));
                let name = self.name(place.variant);
                clauses.push(format!("{name} is {word}{}", by.unwrap_or_default()));
            }
        }
        clauses.extend(self.unchanged());
        let within = self.within_noise();
        if !within.is_empty() {
            clauses.push(format!("{} {} within noise", listed(&within), are(&within)));
        }
        if clauses.is_empty() {
            clauses.push("no difference can be told".to_owned());
        }
        clauses
    }

    fn unchanged(&self) -> Vec<String> {
        let clause = |place: &Place<'_>| {
            let name = self.name(place.variant);
            let is_identical = place
                .comparison
                .is_some_and(|it| it.method == Method::Identical.name());
            match self.input.margin {
                _ if is_identical => format!("{name} sends the same requests"),
                Some(margin) => {
                    let margin = number::amount(self.input.primary().unit, margin);
                    format!("{name} is unchanged within {margin}")
                }
                None => format!("{name} is unchanged"),
            }
        };
        self.standing(Standing::Unchanged).map(clause).collect()
    }

    /// How many units would settle what is within noise; nothing where that is not known, or
    /// where there are as many already and only the correction for many pairs asks for more.
    fn settle(&self) -> Option<String> {
        let known: Vec<(&str, String)> = self
            .standing(Standing::Inconclusive)
            .filter_map(|it| {
                let comparison = it.comparison?;
                let n = comparison.n_to_settle?;
                ((comparison.n_pairs as u64) < n).then(|| (self.name(it.variant), number::about(n)))
            })
            .collect();
        let noun = self.input.unit_noun();
        match known.as_slice() {
            [] => None,
            [(_, n)] if self.standing(Standing::Inconclusive).count() == 1 => {
                Some(format!("about {n} {noun}s would settle it (80 % power)"))
            }
            several => {
                let each = several.iter().enumerate().map(|(index, (name, n))| {
                    let noun = if index == 0 {
                        format!(" {noun}s")
                    } else {
                        String::new()
                    };
                    format!("{n}{noun} for {name}")
                });
                let each: Vec<String> = each.collect();
                let each: Vec<&str> = each.iter().map(String::as_str).collect();
                let each = listed(&each);
                Some(format!("settling it would take about {each} (80 % power)"))
            }
        }
    }
}

/// An estimate as shown while the run is unfinished: without an interval.
fn withheld(estimate: Estimate, input: &ReportInput) -> Estimate {
    if input.status.is_finished() {
        estimate
    } else {
        Estimate {
            stderr: None,
            interval: None,
            ..estimate
        }
    }
}

fn compared<'a>(
    input: &ReportInput,
    model: &'a ModelInput,
    reference: usize,
    unjudged: &Place<'a>,
) -> Place<'a> {
    let pair = |candidate: usize, reference: usize| {
        model.comparisons.iter().find(|it| {
            (it.metric, it.candidate, it.reference) == (input.primary, candidate, reference)
        })
    };
    let not_compared = Place {
        standing: Standing::NotCompared,
        ..*unjudged
    };
    let variant = not_compared.variant;
    // Ties in value may have been ranked the other way round where they were compared.
    let (comparison, is_turned) = match (pair(variant, reference), pair(reference, variant)) {
        (Some(it), _) => (it, false),
        (None, Some(it)) => (it, true),
        (None, None) => return not_compared,
    };
    let place = Place {
        comparison: Some(comparison),
        ..not_compared
    };
    let (Some(gain), Some(verdict)) = (comparison.gain, comparison.verdict) else {
        return place;
    };
    let standing = match (verdict, is_turned) {
        (Verdict::Improved, false) | (Verdict::Regressed, true) => Standing::Better,
        (Verdict::Regressed, false) | (Verdict::Improved, true) => Standing::Worse,
        (Verdict::Unchanged, _) => Standing::Unchanged,
        (Verdict::Inconclusive, _) => Standing::Inconclusive,
    };
    let turned = |it: Interval| Interval {
        low: -it.high,
        high: -it.low,
    };
    Place {
        standing,
        gain: Some(if is_turned { -gain } else { gain }),
        interval: comparison
            .interval
            .map(|it| if is_turned { turned(it) } else { it }),
        ..place
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

fn are(names: &[&str]) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}
