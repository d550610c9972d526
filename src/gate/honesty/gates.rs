//! Bounds and gates on paired means, the whole judgement simulated.

use crate::experiment::OnInconclusive;
use crate::gate::{
    Limit, Observation, Pair, Rule, Seen, State, Unscored, decide_all, filled, judge,
};
use crate::stats::{Difference, Direction, Interval, Sample, planned_units};

use super::draws::Draws;
use super::population::Population;
use super::{Effort, Figure, Required};

const HIGHER: Direction = Direction::HigherIsBetter;

pub(crate) fn max_drop(max_drop: f64, max_failed: usize) -> Rule {
    Rule {
        limit: Limit::MaxDrop(max_drop),
        confidence: 0.95,
        on_inconclusive: OnInconclusive::Fail,
        max_failed,
    }
}

fn observation(pair: Pair) -> Observation {
    let n = pair.candidate.n_units();
    Observation {
        seen: Seen::Paired { pair, filled: None },
        direction: HIGHER,
        n_planned: n,
        unscored: Unscored::default(),
        units: Vec::new(),
        is_clustered: false,
    }
}

fn label() -> crate::gate::Label {
    crate::gate::Label {
        gate_index: 0,
        metric: String::new(),
        model: String::new(),
        variant: String::new(),
        reference: None,
    }
}

/// The states of the checks of one command, one for each pair.
fn states(rule: &Rule, pairs: Vec<Pair>) -> Vec<State> {
    let observations = pairs.into_iter().map(observation);
    let findings = observations.map(|it| judge(label(), rule, &it)).collect();
    decide_all(findings).iter().map(|it| it.state).collect()
}

fn drawn(population: Population, draws: &mut Draws, n: usize, drop: f64) -> Pair {
    let (candidate, reference) = population.pair(draws, n, drop);
    Pair {
        candidate,
        reference,
    }
}

/// Both one-sided bounds of the gain, at a true gain of 0, or of `-drop` where there is no other.
pub(crate) fn bounds(effort: Effort) -> Vec<Figure> {
    let few = [
        Population::Translate,
        Population::F1,
        Population::LognormalDrops,
    ];
    let mut figures = Vec::new();
    for (at, &population) in effort.of(&few, &Population::ALL).iter().enumerate() {
        for &n in effort.of(&[150], &[150, 400]) {
            let mut draws = Draws::new(1_000 + 10 * at as u64 + n as u64);
            let drop = population.drop();
            let (mut n_above, mut n_below) = (0, 0);
            for _ in 0..effort.n_replicates {
                let (candidate, reference) = population.pair(&mut draws, n, drop);
                let gain = Difference::paired(&candidate, &reference, HIGHER)
                    .expect("as many units on both sides");
                n_above += u32::from(gain.lower(0.95).is_some_and(|it| -drop < it));
                n_below += u32::from(gain.upper(0.95).is_some_and(|it| it < -drop));
            }
            for (side, n_beyond) in [("lower", n_above), ("upper", n_below)] {
                let share = f64::from(n_beyond) / f64::from(effort.n_replicates);
                let what = format!("{}, n = {n}, {side} bound", population.name());
                figures.push(Figure::share(effort, what, share, Required::AtMost(0.07)));
            }
        }
    }
    figures
}

/// How often a gate passes although the true drop is what it tolerates, at its floor and beyond.
pub(crate) fn false_pass(effort: Effort) -> Vec<Figure> {
    let few = [
        Population::Sentiment,
        Population::Student3,
        Population::RareDrops,
    ];
    let mut figures = Vec::new();
    for (at, &population) in effort.of(&few, &Population::ALL).iter().enumerate() {
        let drop = population.drop();
        let rule = max_drop(drop, 0);
        let floor = rule.floor(population.range(), false).unwrap_or_default() as usize;
        let mut all = vec![(floor, " (the floor)"), (150, ""), (300, "")];
        if population == Population::RareNats {
            // Where a loss in 3 % of the examples is seen once in 95 of 100 datasets.
            all.insert(1, (99, ""));
        }
        for &(n, note) in effort.of(&all[..1], &all) {
            let mut draws = Draws::new(2_000 + 10 * at as u64 + n as u64);
            let share = effort.share(|_| {
                let pair = drawn(population, &mut draws, n, drop);
                states(&rule, vec![pair]) == [State::Passed]
            });
            let what = format!("{}, n = {n}{note}", population.name());
            let figure = Figure::share(effort, what, share, Required::AtMost(0.07));
            // Of 30 examples 4 in 10 datasets hold no loss at all, and nothing bounds its size.
            let is_known_miss = population == Population::RareNats && n == floor;
            figures.push(Figure {
                is_known_miss,
                ..figure
            });
        }
    }
    figures
}

/// How often a gate fails, and how often it passes, where the true gain is 0 and the dataset has
/// the size that the forecast asks for.
pub(crate) fn no_drop(effort: Effort) -> Vec<Figure> {
    let few = [Population::Translate, Population::F1];
    let all = [
        Population::Translate,
        Population::Sentiment,
        Population::F1,
        Population::LognormalDrops,
        Population::Student3,
        Population::RareNats,
    ];
    let mut figures = Vec::new();
    for (at, &population) in effort.of(&few, &all).iter().enumerate() {
        let mut draws = Draws::new(3_000 + at as u64);
        let spread = spread(population, &mut draws);
        // F1 tolerates 5 points; the others a fifth of the spread, which plans 155 units.
        let tolerance = match population.range() {
            Some(_) => 0.05,
            None => 0.2 * spread,
        };
        let rule = max_drop(tolerance, 0);
        let floor = rule.floor(population.range(), false).unwrap_or_default();
        let n = planned_units(0.95, tolerance, spread, floor).unwrap_or_default() as usize;
        let name = population.name();
        let (mut n_passed, mut n_failed) = (0_u32, 0_u32);
        for _ in 0..effort.n_replicates {
            let pair = drawn(population, &mut draws, n, 0.0);
            let state = states(&rule, vec![pair])[0];
            n_passed += u32::from(state == State::Passed);
            n_failed += u32::from(state == State::Failed);
        }
        let share = |count: u32| f64::from(count) / f64::from(effort.n_replicates);
        let what = format!("{name}, planned n = {n}: passes");
        let passes = Figure::share(effort, what, share(n_passed), Required::AtLeast(0.75));
        // The plan knows the spread but not the skewness, which widens the bound and lets single
        // examples dominate.
        let is_known_miss = matches!(
            population,
            Population::LognormalDrops | Population::RareNats | Population::Student3
        );
        figures.push(Figure {
            is_known_miss,
            ..passes
        });
        let what = format!("{name}, planned n = {n}: fails");
        figures.push(Figure::share(
            effort,
            what,
            share(n_failed),
            Required::AtMost(0.05),
        ));
    }
    figures.extend(accuracy(effort));
    figures.extend(many_checks(effort));
    figures
}

/// Accuracy at the size planned for a tenth of the answers changing.
fn accuracy(effort: Effort) -> Vec<Figure> {
    let n = 248;
    let mut draws = Draws::new(3_100);
    let (mut n_passed, mut n_failed) = (0_u32, 0_u32);
    for _ in 0..effort.n_replicates {
        let changes: Vec<(bool, bool)> = (0..n)
            .map(|_| match draws.uniform() {
                it if it < 0.05 => (true, false),
                it if it < 0.10 => (false, true),
                _ => (true, true),
            })
            .collect();
        let (candidate, reference): (Vec<bool>, Vec<bool>) = changes.into_iter().unzip();
        let of = |outcomes: &[bool]| Sample::proportion(outcomes).expect("some outcomes");
        let pair = Pair {
            candidate: of(&candidate),
            reference: of(&reference),
        };
        let state = states(&max_drop(0.05, 0), vec![pair])[0];
        n_passed += u32::from(state == State::Passed);
        n_failed += u32::from(state == State::Failed);
    }
    let share = |count: u32| f64::from(count) / f64::from(effort.n_replicates);
    let name = "accuracy, 10 % discordant";
    let passed = format!("{name}, planned n = {n}: passes");
    let failed = format!("{name}, planned n = {n}: fails");
    vec![
        Figure::share(effort, passed, share(n_passed), Required::AtLeast(0.75)),
        Figure::share(effort, failed, share(n_failed), Required::AtMost(0.05)),
    ]
}

/// Any failure among the checks of one command, with no tolerance, where failing is easiest.
fn many_checks(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &(population, n_checks) in effort.of(
        &[(Population::Translate, 4)],
        &[
            (Population::Translate, 1),
            (Population::Translate, 8),
            (Population::Sentiment, 8),
            (Population::F1, 8),
            (Population::Student3, 8),
            (Population::LognormalDrops, 8),
        ],
    ) {
        let mut draws = Draws::new(3_200 + n_checks as u64);
        let share = effort.share(|_| {
            let pairs = (0..n_checks).map(|_| drawn(population, &mut draws, 150, 0.0));
            states(&max_drop(0.0, 0), pairs.collect()).contains(&State::Failed)
        });
        let name = population.name();
        let what = format!("{name}, n = 150, {n_checks} checks, `max_drop` 0: any fails");
        let figure = Figure::share(effort, what, share, Required::AtMost(0.05));
        // Skewed towards gains: at an eighth of 5 % the upper bound is too near.
        let is_known_miss = population == Population::Sentiment;
        figures.push(Figure {
            is_known_miss,
            ..figure
        });
    }
    figures
}

/// The standard deviation of a single gain where nothing dropped.
fn spread(population: Population, draws: &mut Draws) -> f64 {
    let n = 20_000;
    let (candidate, reference) = population.pair(draws, n, 0.0);
    let gain = Difference::paired(&candidate, &reference, HIGHER).expect("as many units");
    gain.spread().unwrap_or_default()
}

/// The candidate loses `max_drop` on average, has no answer for the rows where it does worst, and
/// the gate tolerates so many missing.
pub(crate) fn worst_rows_missing(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &(population, n) in effort.of::<(Population, usize)>(
        &[(Population::RareDrops, 150)],
        &[
            (Population::RareDrops, 100),
            (Population::RareDrops, 150),
            (Population::RareDrops, 300),
            (Population::F1, 100),
            (Population::F1, 150),
            (Population::F1, 300),
        ],
    ) {
        let mut draws = Draws::new(4_000 + n as u64);
        let drop = population.drop();
        let share = effort.share(|_| {
            let rows: Vec<(f64, f64)> = (0..n).map(|_| population.draw(&mut draws, drop)).collect();
            passes_without_worst(&rows, drop, n.div_ceil(33), true)
        });
        let name = population.name();
        let what = format!("{name}, n = {n}, `max_drop` {drop}");
        figures.push(Figure::share(effort, what, share, Required::AtMost(0.05)));
    }
    figures
}

/// Whether a gate passes that does not see the `n_missing` rows with the largest losses; `fills`
/// says whether it is given what to put in their place.
pub(crate) fn passes_without_worst(
    rows: &[(f64, f64)],
    drop: f64,
    n_missing: usize,
    fills: bool,
) -> bool {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| (a.0 - a.1).total_cmp(&(b.0 - b.1)));
    let (missing, answered) = rows.split_at(n_missing);
    let (unit, rule) = (Interval::UNIT, max_drop(drop, n_missing));
    let sample = |values: Vec<f64>| Sample::mean(&values, Some(unit)).expect("within range");
    let pair = Pair {
        candidate: sample(answered.iter().map(|it| it.0).collect()),
        reference: sample(answered.iter().map(|it| it.1).collect()),
    };
    let mut observation = observation(pair);
    if fills {
        let filling = rule.filling(HIGHER, unit);
        let whole = |values: Vec<Option<f64>>, filling| {
            filled(&values, filling, unit, false, None).expect("within range")
        };
        let candidate = answered.iter().map(|it| Some(it.0));
        let candidate = candidate.chain(missing.iter().map(|_| None)).collect();
        let reference = answered.iter().chain(missing).map(|it| Some(it.1));
        let filled_pair = Pair {
            candidate: whole(candidate, filling.candidate),
            reference: whole(reference.collect(), filling.reference),
        };
        if let Seen::Paired { filled, .. } = &mut observation.seen {
            *filled = Some(Box::new(filled_pair));
        }
        observation.unscored.examples = n_missing;
        observation.n_planned = rows.len();
    }
    let checks = decide_all(vec![judge(label(), &rule, &observation)]);
    checks[0].state == State::Passed
}
