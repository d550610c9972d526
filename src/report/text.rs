//! The ranking of a run's variants as a table for the terminal.

use comfy_table::ContentArrangement;

use super::escape::columns;
use super::notes::notes;
use super::number::counted;
use super::ranking::Ranking;
use super::ranking_table::{Layout, draw};
use super::wrap::wrap;
use super::{ModelInput, ReportInput, Style};

/// Metrics besides the primary one that a table shows at most.
const MAX_FURTHER: usize = 4;

/// Metrics that are shown first of those that nobody declared.
const PREFERRED: [&str; 4] = ["acc", "acc_norm", "loglikelihood_per_byte", "greedy_match"];

/// The table of every model, with the lines that go under it; ends in a line feed.
pub fn summary(input: &ReportInput, style: Style) -> String {
    let models: Vec<String> = input
        .models
        .iter()
        .map(|it| model(input, it, style))
        .collect();
    models.join("\n")
}

fn model(input: &ReportInput, model: &ModelInput, style: Style) -> String {
    let ranking = Ranking::new(input, model);
    let (table, missing) = fitted(&ranking, style);
    let mut text = format!("{}\n{table}\n", title(input, model));
    let mut add = |line: &str| {
        if !line.is_empty() {
            text.push_str(&wrap(line, style.width, "  "));
            text.push('\n');
        }
    };
    add(&ranking.legend());
    add(&ranking.sentence());
    for note in notes(&ranking) {
        add(&note);
    }
    if missing.is_shown {
        let metric = &input.primary().name;
        add(&format!(
            "Only {metric} is confirmatory, the other metrics are exploratory."
        ));
    }
    if !missing.names.is_empty() {
        add(&format!("Too wide to show: {}.", missing.names.join(", ")));
    }
    text
}

fn title(input: &ReportInput, model: &ModelInput) -> String {
    let mut parts = vec![
        input.experiment.clone(),
        model.name.clone(),
        counted(input.n_examples, "example"),
    ];
    if input.has_clusters {
        parts.push("by cluster".to_owned());
    }
    if input.status.is_finished() {
        parts.push("95 % intervals".to_owned());
    }
    parts.join(" · ")
}

/// What a table leaves out, and whether it has metrics besides the primary one.
struct Further {
    is_shown: bool,
    names: Vec<String>,
}

/// The richest table that fits the width; if none does, the least one, wrapped.
fn fitted(ranking: &Ranking<'_>, style: Style) -> (String, Further) {
    let wanted = further(ranking.input);
    let mut layouts = Vec::new();
    for is_tall in [false, true] {
        let full = |n_further| Layout {
            n_further,
            has_tokens: true,
            has_time: true,
            is_tall,
        };
        layouts.extend((1..=wanted.len()).rev().map(full));
        if wanted.is_empty() {
            layouts.push(full(0));
        }
        let n_further = wanted.len().min(1);
        layouts.push(Layout {
            has_time: false,
            ..full(n_further)
        });
        layouts.push(Layout {
            has_time: false,
            has_tokens: false,
            ..full(n_further)
        });
        layouts.push(Layout {
            has_time: false,
            has_tokens: false,
            ..full(0)
        });
    }
    let width_of = |layout: &Layout| {
        let plain = draw(ranking, &wanted, *layout, false).to_string();
        plain.lines().map(columns).max().unwrap_or(0)
    };
    let fitting = layouts.iter().find(|it| width_of(it) <= style.width);
    let is_wrapped = fitting.is_none();
    let layout = fitting.or(layouts.last()).copied().unwrap_or(Layout {
        n_further: 0,
        has_tokens: false,
        has_time: false,
        is_tall: true,
    });
    let mut table = draw(ranking, &wanted, layout, style.color);
    if is_wrapped {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(style.width).unwrap_or(u16::MAX));
    }
    let left_out = wanted[layout.n_further..]
        .iter()
        .map(|it| ranking.input.metrics[*it].name.clone());
    let is_shown = 0 < layout.n_further && ranking.reference.is_some();
    (
        table.to_string(),
        Further {
            is_shown,
            names: left_out.collect(),
        },
    )
}

/// Indices of the metrics besides the primary one, in the order in which they are given room.
fn further(input: &ReportInput) -> Vec<usize> {
    let rank = |index: usize| {
        let metric = &input.metrics[index];
        // A corpus metric says what the mean of its cases' own values says, and better.
        let is_sentence = metric.name.starts_with("sentence_");
        if metric.is_declared && !is_sentence {
            return Some(0);
        }
        PREFERRED
            .iter()
            .position(|it| *it == metric.name)
            .map(|it| 1 + it)
    };
    let has_value = |index: usize| {
        let variants = || input.models.iter().flat_map(|it| &it.variants);
        variants().any(|it| it.measurements[index].estimate.is_some())
    };
    let mut found: Vec<(usize, usize)> = (0..input.metrics.len())
        .filter(|it| *it != input.primary && has_value(*it))
        .filter_map(|it| rank(it).map(|rank| (rank, it)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|it| it.1).take(MAX_FURTHER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{self, Variant, four_variants, run, sentiment};
    use crate::score::Status;
    use crate::stats::Verdict;
    use crate::table::{RunStatus, StoredRun};

    fn shown(run: &StoredRun, width: usize) -> String {
        let input = ReportInput::from_stored(run).unwrap();
        summary(
            &input,
            Style {
                color: false,
                width,
            },
        )
    }

    #[test]
    fn one_variant_is_not_compared() {
        let alone = run(&[Variant::reference("few", (0.875, 0.804, 0.923))]);
        insta::assert_snapshot!(shown(&alone, 100));
    }

    #[test]
    fn two_variants_of_which_one_is_worse() {
        let pair = run(&four_variants()[1..3]);
        insta::assert_snapshot!(shown(&pair, 100));
    }

    #[test]
    fn four_variants_are_ranked_and_marked() {
        insta::assert_snapshot!(shown(&sentiment(), 120));
    }

    #[test]
    fn a_narrow_terminal_shows_less_and_says_so() {
        let narrow = shown(&sentiment(), 60);
        assert!(narrow.lines().all(|it| columns(it) <= 60), "{narrow}");
        insta::assert_snapshot!(narrow);
    }

    #[test]
    fn a_terminal_too_narrow_for_anything_still_shows_the_numbers() {
        let text = shown(&sentiment(), 34);
        assert!(text.contains("87.5") && text.contains("+0.4"), "{text}");
    }

    #[test]
    fn with_a_control_gains_are_against_it() {
        let mut run = run(&[
            Variant::reference("bare", (0.816_7, 0.738, 0.876)),
            Variant::new(
                "few",
                (0.875, 0.804, 0.923),
                (0.058_3, 0.01, 0.12, Verdict::Improved),
            ),
            Variant::new(
                "chat",
                (0.65, 0.561, 0.729),
                (-0.166_7, -0.2, -0.1, Verdict::Regressed),
            ),
            Variant::new(
                "same",
                (0.816_7, 0.738, 0.876),
                (0.0, 0.0, 0.0, Verdict::Unchanged),
            ),
        ]);
        run.manifest.control = Some("bare".to_owned());
        run.comparisons[2].method = "identical".to_owned();
        insta::assert_snapshot!(shown(&run, 120));
    }

    #[test]
    fn a_classification_shows_what_takes_no_prompt() {
        let mut run = sentiment();
        for choice in &mut run.choices {
            choice.prior = Some([0.25, 0.75][choice.choice_index]);
        }
        for name in ["acc_majority", "acc_no_context"] {
            let record = run.manifest.metrics[0].clone();
            run.manifest.metrics.push(crate::table::MetricRecord {
                name: name.to_owned(),
                is_descriptive: true,
                is_declared: false,
                ..record
            });
            for variant in ["bare", "few", "chat"] {
                let metric = run.metrics.iter().find(|it| it.variant == variant);
                let mut metric = metric.unwrap().clone();
                name.clone_into(&mut metric.metric);
                // Without a prompt the delimiter still tells variants apart.
                let is_other = name == "acc_no_context" && variant == "chat";
                metric.value = Some(if is_other { 0.55 } else { 0.525 });
                run.metrics.push(metric);
            }
        }
        let text = shown(&run, 120);
        for line in [
            "Trivial accuracy: the commonest label alone 52.5 %, the choices without any prompt \
             52.5 to 55.0 %.",
            "Label prior of few, for an input that says nothing: negative 25.0 %, positive 75.0 %.",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn what_the_numbers_hide_stands_below_them() {
        let mut run = sentiment();
        run.cases[0].status = Status::ContextOverflow;
        run.cases[0].loglikelihood = None;
        run.cases[4].status = Status::EngineError;
        run.cases[5].boundary_merge = Some(true);
        for case in &mut run.cases[6..8] {
            case.finish_reason = Some("length".to_owned());
            case.generation = Some(" ".to_owned());
        }
        run.choices[5].loglikelihood = run.choices[4].loglikelihood;
        run.comparisons[0].n_unpaired = 2;
        insta::assert_snapshot!(shown(&run, 110));
    }

    #[test]
    fn likelihoods_have_the_digits_they_deserve() {
        let nats = fixture::with_primary(sentiment(), "loglikelihood_per_byte", "nats/byte");
        insta::assert_snapshot!(shown(&nats, 120));
    }

    #[test]
    fn an_unfinished_run_shows_values_only() {
        let mut run = sentiment();
        run.manifest.status = RunStatus::Interrupted;
        let text = shown(&run, 120);
        for hidden in ["[", "★", "▼", "gain", "Best of", "exploratory"] {
            assert!(!text.contains(hidden), "{hidden} in\n{text}");
        }
        assert!(text.contains("87.5"), "{text}");
        assert!(
            text.contains("The run is interrupted with 12 of 12 cases done: values only"),
            "{text}"
        );
    }

    #[test]
    fn too_few_examples_are_called_that() {
        let mut run = run(&four_variants()[1..3]);
        run.comparisons[0].ci_low = None;
        run.comparisons[0].ci_high = None;
        run.comparisons[0].verdict = Some(Verdict::Inconclusive);
        let text = shown(&run, 100);
        let expected = "Best: few; instruct is not judged with fewer than 10 examples.";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn several_within_noise_are_all_named() {
        let mut variants = four_variants();
        variants[1].gain = Some((-0.075, -0.14, 0.012, Verdict::Inconclusive));
        variants[1].n_to_settle = Some(1_201);
        let text = shown(&run(&variants), 140);
        let expected = "Best: few, but bare and instruct are within noise; settling it would take \
                        about 310 examples for bare and 1,300 for instruct (80 % power).";
        assert!(text.contains(expected), "{text}");
    }

    /// As many examples as there are cannot be what is missing: the correction for several
    /// pairs is.
    #[test]
    fn a_forecast_below_the_examples_at_hand_is_not_given() {
        let mut variants = four_variants();
        variants[0].n_to_settle = Some(100);
        let text = shown(&run(&variants), 140);
        assert!(
            text.contains("bare is within noise.") && !text.contains("settle"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_compared_says_what_can() {
        let mut run = fixture::with_primary(sentiment(), "loglikelihood_per_token", "nats/token");
        run.comparisons[0].difference = None;
        run.comparisons[0].method = "not_comparable".to_owned();
        let text = shown(&run, 200);
        for expected in [
            "│ ? ┆ bare ",
            "bare could not be compared.",
            "Not compared: bare scored other targets or tokens by loglikelihood_per_token; \
             loglikelihood_per_byte divides by what no prompt changes.",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn color_only_adds_to_the_text() {
        let input = ReportInput::from_stored(&sentiment()).unwrap();
        let colored = summary(
            &input,
            Style {
                color: true,
                width: 120,
            },
        );
        assert!(colored.contains("\u{1b}["));
        let mut plain = String::new();
        for part in colored.split("\u{1b}[") {
            let end = if plain.is_empty() {
                0
            } else {
                part.find('m').map_or(0, |it| it + 1)
            };
            plain.push_str(&part[end..]);
        }
        assert_eq!(
            plain,
            summary(
                &input,
                Style {
                    color: false,
                    width: 120
                }
            )
        );
    }

    #[test]
    fn tables_that_contradict_the_manifest_are_refused() {
        let mut run = sentiment();
        run.metrics[0].variant = "other".to_owned();
        let error = ReportInput::from_stored(&run).unwrap_err();
        assert_eq!(
            error.to_string(),
            "run `20260101-120000-abcd` contradicts itself: its manifest has no variant `other`"
        );
    }
}
