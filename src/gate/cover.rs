//! Which gates cover which variants, and what the evidence of runs says of each.
//!
//! One gate is one check per model and variant that it covers and the run has. A check against a
//! baseline pairs a variant with the one of the same name there; a variant that is new has nothing
//! to be held against and is listed, one that has gone is a failure unless it is `retired`.

use crate::compare::{CellPair, Evidence, LoneSample, PairedSamples, samples};
use crate::experiment::{self, Against, GateSpec};
use crate::metric::Metric;
use crate::stats;

use super::check::Label;
use super::judge::{Finding, judge};
use super::observation::{Observation, Pair, Seen, Unscored, filled};
use super::rule::Rule;

/// What the gates of one file come to, before Holm over all files of the command.
#[derive(Debug, Clone, Default)]
pub struct Covered {
    /// One per check, by gate, model and variant.
    pub findings: Vec<Finding>,
    /// Variants that the baseline does not have: not judged against it.
    pub new_variants: Vec<String>,
    /// Models that the baseline does not have: nothing on them is judged against it.
    pub new_models: Vec<String>,
    /// Gates against a baseline, where there is none; positions in the file, from 0.
    pub without_baseline: Vec<usize>,
    /// Gates that cover nothing of what was selected to run, or whose reference was not selected.
    pub unselected: Vec<usize>,
}

/// What gates with `compare = "baseline"` are held against.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// There is no baseline yet.
    None,
    /// This one.
    Evidence {
        /// What it holds.
        evidence: &'a Evidence,
        /// Its name for people.
        name: &'a str,
    },
    /// There is one, but it cannot be compared with.
    Refused {
        /// Its name for people.
        name: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// Holds every gate against what it covers.
///
/// `is_whole` says that all variants of the file took part: only then can one be missing.
pub fn cover(gates: &[GateSpec], candidate: &Evidence, base: Base<'_>, is_whole: bool) -> Covered {
    let mut covered = Covered::default();
    for (gate_index, gate) in gates.iter().enumerate() {
        let against = match &gate.rule {
            experiment::Rule::Compare { against, .. } => Some(&against.value),
            experiment::Rule::Min(_) | experiment::Rule::Max(_) => None,
        };
        if against == Some(&Against::Baseline) {
            match base {
                Base::None => {
                    covered.without_baseline.push(gate_index);
                    continue;
                }
                Base::Evidence { evidence, name } if is_whole => {
                    covered
                        .findings
                        .extend(gone((gate_index, gate), candidate, evidence, name));
                }
                Base::Evidence { .. } | Base::Refused { .. } => {}
            }
        }
        if matches!(against, Some(Against::Variant(it)) if candidate.variant(it).is_none()) {
            covered.unselected.push(gate_index);
            continue;
        }
        let mut is_empty = true;
        for cells in cells(gate, candidate, against) {
            is_empty = false;
            let subject = Subject {
                gate_index,
                gate,
                candidate,
                cells,
            };
            match against {
                Some(Against::Baseline) => match subject.against_base(base) {
                    Held::Judged(finding) => covered.findings.push(*finding),
                    Held::NewVariant => covered.new_variants.push(subject.variant()),
                    Held::NewModel => covered.new_models.push(subject.model()),
                },
                Some(Against::Variant(other)) => covered.findings.push(subject.against(other)),
                None => covered.findings.push(subject.alone()),
            }
        }
        if is_empty {
            covered.unselected.push(gate_index);
        }
    }
    for names in [&mut covered.new_variants, &mut covered.new_models] {
        names.sort();
        names.dedup();
    }
    covered
}

/// The models and variants that a gate covers, as indices.
fn cells<'a>(
    gate: &'a GateSpec,
    candidate: &'a Evidence,
    against: Option<&'a Against>,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let is_itself = move |name: &str| matches!(against, Some(Against::Variant(it)) if it == name);
    let models =
        (0..candidate.models.len()).filter(|it| gate.model.covers(&candidate.models[*it].name));
    models.flat_map(move |model| {
        let variants = 0..candidate.variants.len();
        variants
            .filter(move |it| {
                let name = &candidate.variants[*it].name;
                gate.variant.covers(name) && !is_itself(name)
            })
            .map(move |variant| (model, variant))
    })
}

/// A failure for every variant of the baseline that is gone and not retired, on each model.
fn gone<'a>(
    (gate_index, gate): (usize, &'a GateSpec),
    candidate: &'a Evidence,
    baseline: &'a Evidence,
    name: &'a str,
) -> impl Iterator<Item = Finding> + 'a {
    let is_retired = |name: &String| gate.retired.iter().any(|it| it.value == *name);
    let names = baseline.variants.iter().map(|it| &it.name);
    let names = names.filter(move |it| {
        gate.variant.covers(it) && !is_retired(it) && candidate.variant(it).is_none()
    });
    let observation = Observation {
        seen: Seen::Gone,
        direction: stats::Direction::HigherIsBetter,
        n_planned: candidate.examples.len(),
        unscored: Unscored::default(),
        units: Vec::new(),
        is_clustered: false,
    };
    names.flat_map(move |variant| {
        let models = candidate
            .models
            .iter()
            .filter(|it| gate.model.covers(&it.name));
        let findings: Vec<Finding> = models
            .map(|model| {
                let label = Label {
                    gate_index,
                    metric: gate.metric.value.clone(),
                    model: model.name.clone(),
                    variant: variant.clone(),
                    reference: Some(name.to_owned()),
                };
                judge(label, &Rule::of(gate), &observation)
            })
            .collect();
        findings
    })
}

/// One variant on one model under one gate.
struct Subject<'a> {
    gate_index: usize,
    gate: &'a GateSpec,
    candidate: &'a Evidence,
    /// Indices of model and variant.
    cells: (usize, usize),
}

/// What comes of holding a variant against a baseline.
enum Held {
    /// It has its counterpart there.
    Judged(Box<Finding>),
    /// The baseline does not have the variant.
    NewVariant,
    /// The baseline does not have the model.
    NewModel,
}

impl Subject<'_> {
    fn model(&self) -> String {
        self.candidate.models[self.cells.0].name.clone()
    }

    fn variant(&self) -> String {
        self.candidate.variants[self.cells.1].name.clone()
    }

    fn label(&self, reference: Option<String>) -> Label {
        Label {
            gate_index: self.gate_index,
            metric: self.gate.metric.value.clone(),
            model: self.model(),
            variant: self.variant(),
            reference,
        }
    }

    fn against_base(&self, base: Base<'_>) -> Held {
        let (evidence, name) = match base {
            // Without a baseline no gate comes here.
            Base::None => return Held::NewVariant,
            Base::Refused { name, why } => {
                let finding = self.incomparable(Some(name.to_owned()), why.to_owned());
                return Held::Judged(Box::new(finding));
            }
            Base::Evidence { evidence, name } => (evidence, name),
        };
        // As runs are compared: by name, or the only model with the only model.
        let (own, variant) = (self.model(), self.variant());
        let is_only = self.candidate.models.len() == 1 && evidence.models.len() == 1;
        let model = match evidence.model(&own) {
            Some(index) => index,
            None if is_only => 0,
            None => return Held::NewModel,
        };
        if evidence.variant(&variant).is_none() {
            return Held::NewVariant;
        }
        let cells = CellPair {
            candidate_model: own,
            candidate: variant.clone(),
            reference_model: evidence.models[model].name.clone(),
            reference: variant,
        };
        Held::Judged(Box::new(self.paired(evidence, &cells, name.to_owned())))
    }

    fn against(&self, other: &str) -> Finding {
        let model = self.model();
        let cells = CellPair {
            candidate_model: model.clone(),
            candidate: self.variant(),
            reference_model: model,
            reference: other.to_owned(),
        };
        self.paired(self.candidate, &cells, other.to_owned())
    }

    fn metric(&self) -> Option<&Metric> {
        let index = self.candidate.metric(&self.gate.metric.value)?;
        Some(&self.candidate.metrics[index].metric)
    }

    fn paired(&self, reference: &Evidence, cells: &CellPair, name: String) -> Finding {
        let metric = &self.gate.metric.value;
        match samples(self.candidate, reference, cells, metric) {
            None => {
                let is_there = reference.metric(metric).is_some();
                let why = if is_there {
                    "the metric was computed in another way"
                } else {
                    "it has no values of this metric"
                };
                self.incomparable(Some(name), why.to_owned())
            }
            Some(Err(refusal)) => self.incomparable(Some(name), refusal.to_string()),
            Some(Ok(pair)) => {
                let observation = self.observed_pair(pair);
                judge(self.label(Some(name)), &Rule::of(self.gate), &observation)
            }
        }
    }

    fn observed_pair(&self, pair: PairedSamples) -> Observation {
        let count = |is: &dyn Fn(&crate::compare::Unpaired) -> bool| {
            pair.unpaired.iter().filter(|it| is(it)).count()
        };
        let unscored = Unscored {
            candidate: count(&|it| it.cause.is_unscored_in_candidate()),
            reference: count(&|it| it.cause.is_unscored_in_reference()),
            examples: count(&|it| {
                it.cause.is_unscored_in_candidate() || it.cause.is_unscored_in_reference()
            }),
        };
        let metric = self.metric();
        let with_fillings = pair.planned.as_ref().filter(|_| 0 < unscored.examples);
        let filled = with_fillings.and_then(|planned| {
            let (direction, range) = (metric?.direction, metric?.range?);
            let filling = Rule::of(self.gate).filling(direction, range);
            let clusters = planned.clusters.as_deref();
            let is_proportion = pair.candidate.is_proportion();
            let of = |values: &[Option<f64>], filling| {
                filled(values, filling, range, is_proportion, clusters).ok()
            };
            Some(Box::new(Pair {
                candidate: of(&planned.candidate, filling.candidate)?,
                reference: of(&planned.reference, filling.reference)?,
            }))
        });
        let seen = if pair.is_identical && unscored.examples == 0 {
            Seen::Identical {
                n: pair.units.len(),
            }
        } else {
            Seen::Paired {
                pair: Pair {
                    candidate: pair.candidate,
                    reference: pair.reference,
                },
                filled,
            }
        };
        self.observation(seen, unscored, pair.units, pair.is_clustered)
    }

    fn alone(&self) -> Finding {
        let index = self.candidate.metric(&self.gate.metric.value);
        let sample = index.map(|it| self.candidate.sample(self.cells.0, self.cells.1, it));
        match sample {
            None => self.incomparable(None, "it has no values of this metric".to_owned()),
            Some(Err(err)) => self.incomparable(None, err.to_string()),
            Some(Ok(sample)) => {
                let observation = self.observed_alone(sample);
                judge(self.label(None), &Rule::of(self.gate), &observation)
            }
        }
    }

    fn observed_alone(&self, lone: LoneSample) -> Observation {
        let unscored = Unscored {
            candidate: lone.n_unscored,
            reference: 0,
            examples: lone.n_unscored,
        };
        let metric = self.metric();
        let with_fillings = lone.planned.as_ref().filter(|_| 0 < lone.n_unscored);
        let filled = with_fillings.and_then(|planned| {
            let (direction, range) = (metric?.direction, metric?.range?);
            let filling = Rule::of(self.gate).filling(direction, range);
            let clusters = lone.clusters.as_deref();
            let is_proportion = lone.sample.is_proportion();
            filled(planned, filling.candidate, range, is_proportion, clusters).ok()
        });
        let seen = Seen::Alone {
            candidate: lone.sample,
            filled,
        };
        self.observation(seen, unscored, lone.units, lone.clusters.is_some())
    }

    fn incomparable(&self, reference: Option<String>, why: String) -> Finding {
        let n_unscored = self.n_unscored();
        let unscored = Unscored {
            candidate: n_unscored,
            reference: 0,
            examples: n_unscored,
        };
        let observation =
            self.observation(Seen::NotComparable { why }, unscored, Vec::new(), false);
        judge(self.label(reference), &Rule::of(self.gate), &observation)
    }

    /// Examples without a value of the metric, where it has any.
    fn n_unscored(&self) -> usize {
        let Some(metric) = self.candidate.metric(&self.gate.metric.value) else {
            return 0;
        };
        let cell = self.candidate.cell(self.cells.0, self.cells.1).iter();
        cell.filter(|it| self.candidate.value(metric, *it).is_none())
            .count()
    }

    fn observation(
        &self,
        seen: Seen,
        unscored: Unscored,
        units: Vec<String>,
        is_clustered: bool,
    ) -> Observation {
        Observation {
            seen,
            direction: self
                .metric()
                .map_or(stats::Direction::HigherIsBetter, |it| it.direction),
            n_planned: self.candidate.examples.len(),
            unscored,
            units,
            is_clustered,
        }
    }
}

#[cfg(test)]
mod tests;
