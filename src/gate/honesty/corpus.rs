//! Corpus metrics of two translation systems, over resampled sentences.
//!
//! Sentences are made up: words of a few syllables with frequencies after Zipf, 4 to 20 to a
//! sentence. Every sentence has a difficulty that both systems share; in proportion to it a
//! system drops words, replaces them, misspells them or swaps neighbours. So the systems' errors
//! depend on each other as in practice, and long sentences weigh more. The population is finite:
//! its own metrics are the truth, and datasets are drawn from it with replacement.

use std::sync::Arc;

use crate::stats::{Difference, Direction, Interval, Sample};
use crate::text_metric::{BleuTokenizer, TextJudge, TextMetric};

use super::draws::Draws;
use super::{Effort, Figure, Required};

/// The statistics of one sentence for both systems.
type Sentence = [Vec<f64>; 2];

/// How often the interval of the difference holds the difference on the population.
pub(crate) fn coverage(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    let texts = population(if effort.is_full { 1_000 } else { 120 });
    let metrics = [
        TextMetric::Bleu {
            tokenize: BleuTokenizer::V13a,
        },
        TextMetric::Chrf,
        TextMetric::Ter,
    ];
    for metric in metrics {
        let name = metric.name();
        let judge = TextJudge::new(None, metric, None, None).expect("a metric without parameters");
        let judge = Arc::new(judge);
        let sentences: Vec<Sentence> = texts
            .iter()
            .map(|(target, outputs)| {
                let targets = std::slice::from_ref(target);
                let of =
                    |output: &String| judge.judge(output, targets).expect("a target").statistics;
                [of(&outputs[0]), of(&outputs[1])]
            })
            .collect();
        let truth = gain(&judge, &sentences.iter().collect::<Vec<_>>()).value();
        for &n in effort.of(&[50], &[50, 150, 400]) {
            let mut draws = Draws::new(8_000 + n as u64);
            let share = effort.share(|_| {
                let drawn: Vec<&Sentence> = (0..n)
                    .map(|_| &sentences[draws.below(sentences.len())])
                    .collect();
                let interval = gain(&judge, &drawn).interval(0.95);
                interval.is_some_and(|it| it.contains(truth))
            });
            let what = format!("{name}, n = {n}");
            figures.push(Figure::share(
                effort,
                what,
                share,
                Required::Within(0.93, 0.97),
            ));
        }
    }
    figures
}

fn gain(judge: &Arc<TextJudge>, sentences: &[&Sentence]) -> Difference {
    let range = judge.definition().range.map(|it| Interval {
        low: it.min,
        high: it.max,
    });
    let side = |at: usize| {
        let rows: Vec<&[f64]> = sentences.iter().map(|it| &it[at][..]).collect();
        let judge = Arc::clone(judge);
        Sample::corpus(&rows, range, move |sums| {
            judge.corpus(sums).unwrap_or(f64::NAN)
        })
        .expect("a value on some sentences")
    };
    Difference::paired(&side(0), &side(1), Direction::HigherIsBetter).expect("as many sentences")
}

/// Targets, each with what two systems made of it; the first is a little better.
fn population(n: usize) -> Vec<(String, [String; 2])> {
    let mut draws = Draws::new(8_500);
    let vocabulary: Vec<String> = (0..400).map(|_| word(&mut draws)).collect();
    let sentence = |_| {
        let n_words = 4 + draws.below(17);
        // Of 400 words with frequencies 1 / rank, the inverse of ln(rank) / ln(400).
        let words: Vec<usize> = (0..n_words)
            .map(|_| (400_f64.powf(draws.uniform()) as usize - 1).min(399))
            .collect();
        let difficulty = 0.7 * draws.uniform().powi(2);
        let mut output = |scale: f64| {
            let spoiled = spoil(&words, scale * difficulty + 0.03, &mut draws);
            let texts: Vec<String> = spoiled
                .iter()
                .map(|(at, is_misspelt)| {
                    let suffix = if *is_misspelt { "x" } else { "" };
                    format!("{}{suffix}", vocabulary[*at])
                })
                .collect();
            texts.join(" ")
        };
        let outputs = [output(1.0), output(1.2)];
        let target: Vec<&str> = words.iter().map(|it| vocabulary[*it].as_str()).collect();
        (target.join(" "), outputs)
    };
    (0..n).map(sentence).collect()
}

fn word(draws: &mut Draws) -> String {
    const CONSONANTS: &[u8] = b"bcdfglmnprstv";
    const VOWELS: &[u8] = b"aeiou";
    let mut word = String::new();
    for _ in 0..=draws.below(3) {
        word.push(char::from(CONSONANTS[draws.below(CONSONANTS.len())]));
        word.push(char::from(VOWELS[draws.below(VOWELS.len())]));
    }
    word
}

/// A sentence with errors at this rate per word; each word with whether it is misspelt.
fn spoil(words: &[usize], rate: f64, draws: &mut Draws) -> Vec<(usize, bool)> {
    let mut spoiled = Vec::new();
    for word in words {
        if !draws.chance(rate) {
            spoiled.push((*word, false));
            continue;
        }
        match draws.below(4) {
            0 => {}
            1 => spoiled.push((draws.below(400), false)),
            2 => spoiled.push((*word, true)),
            _ => {
                let at = spoiled.len().saturating_sub(1);
                spoiled.insert(at, (*word, false));
            }
        }
    }
    if spoiled.is_empty() {
        spoiled.push((words[0], true));
    }
    spoiled
}
