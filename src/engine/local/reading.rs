//! Reads the vocabulary at rows: logits of given tokens, and tokens that are chosen.
//!
//! The one place that asks the head. A row that is only scored or continued greedily
//! needs its maximum, its log-sum-exp and some logits; only draws and penalties need
//! all logits of a row at once.

use super::arithmetic::{Arithmetic, Fallible};
use super::decoder::Decoder;
use super::head::{self, Pick, RowSummary};
use super::sample::Chooser;

/// A sequence that continues at a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a>(pub &'a Chooser);

/// What is asked of one hidden row.
#[derive(Debug, Default)]
pub(crate) struct Question<'a> {
    /// Tokens whose logits are wanted.
    pub picks: &'a [u32],
    /// Sequences that continue here.
    pub turns: Vec<Turn<'a>>,
}

/// The answer to a [`Question`].
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Present if there were picks or a greedy turn.
    pub scan: Option<RowScan>,
    /// The next token of each sequence; `None` if the logits are not finite.
    pub chosen: Vec<Option<u32>>,
}

/// What a row says without all of its logits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowScan {
    /// `ln(sum(exp(logits)))`; not finite if some logit is NaN or +inf.
    pub log_sum_exp: f64,
    /// The most likely token; ties go to the lowest id.
    pub argmax: u32,
    /// Logits of the picked tokens, in their order.
    pub picked: Vec<f32>,
}

impl Question<'_> {
    fn needs_scan(&self) -> bool {
        !self.picks.is_empty() || !self.turns.iter().all(|it| it.0.needs_logits())
    }

    fn needs_logits(&self) -> bool {
        self.turns.iter().any(|it| it.0.needs_logits())
    }
}

/// Answers one question per row of `hidden` (rows, E).
///
/// # Errors
///
/// What the device says.
pub(crate) fn read<A: Arithmetic>(
    decoder: &Decoder<A>,
    hidden: &A::Rows,
    questions: &[Question<'_>],
) -> Fallible<Vec<Answer>> {
    let mut answers: Vec<Answer> = questions.iter().map(|_| Answer::default()).collect();
    let rows = 0..questions.len();
    let scanned: Vec<usize> = rows
        .clone()
        .filter(|it| questions[*it].needs_scan())
        .collect();
    let picks: Vec<&[u32]> = scanned.iter().map(|it| questions[*it].picks).collect();
    let scans = scan(decoder, hidden, &scanned, &picks)?;
    for (row, scan) in scanned.into_iter().zip(scans) {
        answers[row].scan = Some(scan);
    }
    let drawn: Vec<usize> = rows.filter(|it| questions[*it].needs_logits()).collect();
    let choose = |row: usize, logits: &[f32], summary: RowSummary| -> Vec<Option<u32>> {
        let turns = questions[drawn[row]].turns.iter();
        let turns = turns.filter(|it| it.0.needs_logits());
        let choose = |it: &Turn<'_>| it.0.choose(logits, summary.argmax);
        turns
            .map(|it| summary.log_sum_exp.is_finite().then(|| choose(it)))
            .collect()
    };
    let rows = gather(decoder, hidden, &drawn)?;
    let choices = head::for_logits(decoder, &rows, drawn.len(), choose)?;
    let mut choices = drawn.iter().zip(choices).peekable();
    for (row, (answer, question)) in answers.iter_mut().zip(questions).enumerate() {
        let drawn = choices.next_if(|it| *it.0 == row);
        let mut drawn = drawn.into_iter().flat_map(|it| it.1);
        let greedy = answer.scan.as_ref();
        let greedy = greedy.and_then(|it| it.log_sum_exp.is_finite().then_some(it.argmax));
        for turn in &question.turns {
            answer.chosen.push(if turn.0.needs_logits() {
                drawn.next().flatten()
            } else {
                greedy
            });
        }
    }
    Ok(answers)
}

/// Log-sum-exp, most likely token and the picked logits of some rows of `hidden`.
fn scan<A: Arithmetic>(
    decoder: &Decoder<A>,
    hidden: &A::Rows,
    rows: &[usize],
    picks: &[&[u32]],
) -> Fallible<Vec<RowScan>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<Pick> = picks
        .iter()
        .enumerate()
        .flat_map(|(row, tokens)| tokens.iter().map(move |token| Pick { row, token: *token }))
        .collect();
    let hidden = gather(decoder, hidden, rows)?;
    let (summaries, logits) = decoder.arithmetic.scan(&hidden, &decoder.head, &asked)?;
    let mut logits = logits.into_iter();
    let scans = summaries.into_iter().zip(picks);
    Ok(scans
        .map(|(summary, picks)| RowScan {
            log_sum_exp: summary.log_sum_exp,
            argmax: summary.argmax,
            picked: logits.by_ref().take(picks.len()).collect(),
        })
        .collect())
}

/// Some rows of `hidden`.
fn gather<A: Arithmetic>(
    decoder: &Decoder<A>,
    hidden: &A::Rows,
    rows: &[usize],
) -> Fallible<A::Rows> {
    let rows: Vec<(usize, usize)> = rows.iter().map(|row| (0, *row)).collect();
    decoder.arithmetic.gather(&[hidden], &rows)
}
