//! TER: how many edits turn a text into a reference, per word of the reference.
//!
//! Source: Snover et al. 2006. An edit inserts, deletes or replaces a word, or moves
//! a run of words. Finding the fewest is infeasible, so the definition is a greedy
//! search with limits; this one equals sacrebleu 2.6.0's defaults, which follow
//! Tercom: lowercase, no normalisation, punctuation kept, a beam around the diagonal.
//!
//! A case's statistics are `[n_edits, n_reference_words]`: the fewest edits to any
//! reference, and the mean length of the references.

use std::collections::HashMap;

use super::python_text;

/// How many statistics a case has.
pub(super) const N_STATISTICS: usize = 2;

/// The longest run of words that is moved at once.
const MAX_SHIFT_WORDS: usize = 10;
/// How far apart, in words, a run and its match in the reference may start.
const MAX_SHIFT_DISTANCE: usize = 50;
/// The search ends once this many moves of one text have been tried.
const MAX_SHIFTS_TRIED: usize = 1000;
/// Cells considered on each side of the diagonal of the edit matrix.
const BEAM_WIDTH: usize = 25;

/// The statistics of one case; `references` is not empty.
pub(super) fn statistics(hypothesis: &str, references: &[String]) -> Vec<f64> {
    let mut vocabulary = Vocabulary::default();
    let hypothesis = vocabulary.ids(hypothesis);
    let references: Vec<Vec<WordId>> = references.iter().map(|it| vocabulary.ids(it)).collect();
    let n_edits = references
        .iter()
        .map(|it| count_edits(&hypothesis, it))
        .min()
        .unwrap_or(0);
    let n_words: usize = references.iter().map(Vec::len).sum();
    vec![n_edits as f64, n_words as f64 / references.len() as f64]
}

/// TER in points from the sum of cases' statistics; 0 is perfect, and there is no upper bound.
///
/// Where all references are empty: 100 if anything was written, else 0.
pub(super) fn score(statistics: &[f64]) -> f64 {
    let (n_edits, n_reference_words) = (statistics[0], statistics[1]);
    if 0.0 < n_reference_words {
        100.0 * (n_edits / n_reference_words)
    } else if 0.0 < n_edits {
        100.0
    } else {
        0.0
    }
}

/// Equal words have equal ids, so that comparing words is comparing numbers.
type WordId = usize;

#[derive(Default)]
struct Vocabulary(HashMap<String, WordId>);

impl Vocabulary {
    fn ids(&mut self, text: &str) -> Vec<WordId> {
        let lowercase = python_text::trim_end(text).to_lowercase();
        let ids = python_text::words(&lowercase).map(|word| {
            let next = self.0.len();
            *self.0.entry(word.to_owned()).or_insert(next)
        });
        ids.collect()
    }
}

/// Moves runs of words as long as that pays, then counts moves and remaining edits.
fn count_edits(hypothesis: &[WordId], reference: &[WordId]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut words = hypothesis.to_vec();
    let mut n_shifts = 0;
    let mut n_tried = 0;
    loop {
        let matrix = EditMatrix::new(&words, reference);
        let best = best_shift(&matrix, &mut n_tried);
        // When the search gives up, the move it had found is not made.
        if MAX_SHIFTS_TRIED <= n_tried {
            return n_shifts + matrix.distance();
        }
        match best {
            Some(shift) if 0 < shift.gain => words = shift.apply(&words),
            _ => return n_shifts + matrix.distance(),
        }
        n_shifts += 1;
    }
}

/// One move of a run of words.
///
/// The order of the fields is the order of preference between moves: most edits
/// saved, then longest, then leftmost start, then leftmost target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shift {
    gain: isize,
    n_words: usize,
    start: std::cmp::Reverse<usize>,
    /// The run goes before the word that stands here as long as the run is in its old place.
    target: std::cmp::Reverse<usize>,
}

impl Shift {
    fn apply(&self, words: &[WordId]) -> Vec<WordId> {
        shifted(words, self.start.0, self.n_words, self.target.0)
    }
}

/// `words` with the run of `n_words` words from `start` moved to `target`.
///
/// A target inside the run moves it to the right by as many words as `target` lies
/// beyond `start`, or to the end.
fn shifted(words: &[WordId], start: usize, n_words: usize, target: usize) -> Vec<WordId> {
    let end = start + n_words;
    let mut moved = words.to_vec();
    if target < start {
        moved[target..end].rotate_right(n_words);
    } else if end < target {
        moved[start..target].rotate_left(n_words);
    } else {
        let last = (target + n_words).min(words.len());
        moved[start..last].rotate_left(n_words);
    }
    moved
}

/// The best move of a run that is wrong where it stands to where the reference has it.
///
/// `n_tried` is increased by the moves tried; past [`MAX_SHIFTS_TRIED`] the search ends.
fn best_shift(matrix: &EditMatrix, n_tried: &mut usize) -> Option<Shift> {
    let alignment = matrix.alignment();
    let mut best = None;
    for (start, reference_start, n_words) in matching_runs(matrix.words, matrix.reference) {
        let end = start + n_words;
        let is_right = |wrong: &[bool]| !wrong.contains(&true);
        if is_right(&alignment.word_is_wrong[start..end])
            || is_right(&alignment.reference_is_wrong[reference_start..reference_start + n_words])
        {
            continue;
        }
        // The run already stands where it would go.
        let after_reference_start = alignment.after[reference_start];
        if start < after_reference_start && after_reference_start <= end {
            continue;
        }
        let mut previous_target = None;
        // Behind the word aligned to the reference word before the run's match, and then
        // behind the words aligned to each word of the match.
        for reference_position in reference_start..=reference_start + n_words {
            let target = match reference_position.checked_sub(1) {
                None => 0,
                Some(before) => alignment.after[before],
            };
            if previous_target == Some(target) {
                continue;
            }
            previous_target = Some(target);
            let candidate = shifted(matrix.words, start, n_words, target);
            let distance = matrix.distance_of(&candidate, start.min(target));
            let shift = Shift {
                gain: matrix.distance().cast_signed() - distance.cast_signed(),
                n_words,
                start: std::cmp::Reverse(start),
                target: std::cmp::Reverse(target),
            };
            best = best.max(Some(shift));
            *n_tried += 1;
        }
        if MAX_SHIFTS_TRIED <= *n_tried {
            break;
        }
    }
    best
}

/// All `(start, reference_start, n_words)` whose runs of words are equal, within the limits.
fn matching_runs<'a>(
    words: &'a [WordId],
    reference: &'a [WordId],
) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    (0..words.len()).flat_map(move |start| {
        let nearest = start.saturating_sub(MAX_SHIFT_DISTANCE);
        let farthest = (start + MAX_SHIFT_DISTANCE + 1).min(reference.len());
        (nearest..farthest).flat_map(move |reference_start| {
            let pairs = words[start..].iter().zip(&reference[reference_start..]);
            let n_equal = pairs
                .take(MAX_SHIFT_WORDS)
                .take_while(|(a, b)| a == b)
                .count();
            (1..=n_equal).map(move |n_words| (start, reference_start, n_words))
        })
    })
}

/// The step by which a cell of the edit matrix is best reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Replace,
    /// A word of the text has no counterpart in the reference.
    Delete,
    /// A word of the reference has no counterpart in the text.
    Insert,
}

/// Which words of a text and a reference correspond.
struct Alignment {
    /// For each reference word, the position behind the word of the text aligned to it;
    /// for one without a counterpart, behind the last word aligned before it, or 0.
    after: Vec<usize>,
    word_is_wrong: Vec<bool>,
    reference_is_wrong: Vec<bool>,
}

/// Fewest insertions, deletions and replacements between all beginnings of a text (rows)
/// and of a reference (columns), near the diagonal.
struct EditMatrix<'a> {
    words: &'a [WordId],
    reference: &'a [WordId],
    /// `words.len() + 1` rows of `reference.len() + 1` cells.
    distances: Vec<usize>,
    edits: Vec<Edit>,
}

/// A cell outside the beam; far from overflow when edits are added.
const UNREACHED: usize = usize::MAX / 2;

impl<'a> EditMatrix<'a> {
    fn new(words: &'a [WordId], reference: &'a [WordId]) -> EditMatrix<'a> {
        let n_columns = reference.len() + 1;
        let mut distances: Vec<usize> = (0..n_columns).collect();
        let mut edits = vec![Edit::Insert; n_columns];
        let mut matrix = EditMatrix {
            words,
            reference,
            distances: vec![],
            edits: vec![],
        };
        let mut row = distances.clone();
        for (index, word) in words.iter().enumerate() {
            let mut row_edits = vec![Edit::Insert; n_columns];
            row = matrix.next_row(&row, *word, index + 1, |column, edit| {
                row_edits[column] = edit;
            });
            distances.extend(&row);
            edits.append(&mut row_edits);
        }
        (matrix.distances, matrix.edits) = (distances, edits);
        matrix
    }

    /// The edits between the whole text and the whole reference.
    fn distance(&self) -> usize {
        *self
            .distances
            .last()
            .expect("there is a first row, and it has a first cell")
    }

    /// The edits between `candidate`, as long as the text and equal to it before
    /// `n_equal`, and the reference.
    fn distance_of(&self, candidate: &[WordId], n_equal: usize) -> usize {
        let n_columns = self.reference.len() + 1;
        let mut row = self.distances[n_equal * n_columns..(n_equal + 1) * n_columns].to_vec();
        // A moved run starts before the end, so the row reused is never the last, which alone
        // is wider than the beam.
        for (index, word) in candidate.iter().enumerate().skip(n_equal) {
            row = self.next_row(&row, *word, index + 1, |_, _| {});
        }
        row[self.reference.len()]
    }

    /// Row `i` of the matrix, which adds `word`, from the row `above` it.
    fn next_row(
        &self,
        above: &[usize],
        word: WordId,
        i: usize,
        mut record: impl FnMut(usize, Edit),
    ) -> Vec<usize> {
        let n_columns = self.reference.len() + 1;
        let ratio = self.reference.len() as f64 / self.words.len() as f64;
        // Where a row is steeper than the beam is wide, two rows would not overlap.
        let beam_width = if (BEAM_WIDTH as f64) < ratio / 2.0 {
            (ratio / 2.0 + BEAM_WIDTH as f64).ceil() as usize
        } else {
            BEAM_WIDTH
        };
        let diagonal = (i as f64 * ratio).floor() as usize;
        let first = diagonal.saturating_sub(beam_width);
        let end = if i == self.words.len() {
            n_columns
        } else {
            n_columns.min(diagonal + beam_width)
        };
        let mut row = vec![UNREACHED; n_columns];
        for j in first..end {
            // Of equally good steps the first listed is taken.
            let mut steps = [
                (UNREACHED, Edit::Replace),
                (above[j] + 1, Edit::Delete),
                (UNREACHED, Edit::Insert),
            ];
            if let Some(left) = j.checked_sub(1) {
                let is_equal = word == self.reference[left];
                steps[0] = if is_equal {
                    (above[left], Edit::Keep)
                } else {
                    (above[left] + 1, Edit::Replace)
                };
                steps[2] = (row[left] + 1, Edit::Insert);
            }
            for (distance, edit) in steps {
                if distance < row[j] {
                    row[j] = distance;
                    record(j, edit);
                }
            }
        }
        row
    }

    /// Follows the best steps from the last cell back to the first.
    fn alignment(&self) -> Alignment {
        let n_columns = self.reference.len() + 1;
        let (mut i, mut j) = (self.words.len(), self.reference.len());
        let mut alignment = Alignment {
            after: vec![0; j],
            word_is_wrong: vec![true; i],
            reference_is_wrong: vec![true; j],
        };
        // Neighbouring rows of the beam overlap, so the last cell was reached, and a
        // cell is reached from reached cells only: no step leaves the matrix.
        while 0 < i || 0 < j {
            match self.edits[i * n_columns + j] {
                edit @ (Edit::Keep | Edit::Replace) => {
                    alignment.after[j - 1] = i;
                    alignment.word_is_wrong[i - 1] = edit == Edit::Replace;
                    alignment.reference_is_wrong[j - 1] = edit == Edit::Replace;
                    (i, j) = (i - 1, j - 1);
                }
                Edit::Delete => i -= 1,
                Edit::Insert => {
                    alignment.after[j - 1] = i;
                    j -= 1;
                }
            }
        }
        alignment
    }
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    /// sacrebleu 2.6.0, `TER().sentence_score`.
    #[test]
    fn sentence_ter_equals_sacrebleu() {
        goldens::hold("ter", |case| {
            score(&statistics(&case.hypothesis, &case.references))
        });
    }

    /// sacrebleu 2.6.0, `TER()`: segment statistics, and `corpus_score` of many and one.
    #[test]
    fn corpus_ter_equals_sacrebleu() {
        goldens::hold_corpora(
            "ter",
            |case| statistics(&case.hypothesis, &case.references),
            score,
        );
    }

    /// By hand: one move puts "c" last; without moves it is a deletion and an insertion.
    #[test]
    fn a_moved_run_is_one_edit() {
        assert_eq!(statistics("c a b", &["a b c".to_owned()]), [1.0, 3.0]);
    }

    /// sacrebleu 2.6.0: a run whose match is aligned to the word just before it is moved as well.
    #[test]
    fn a_run_behind_the_word_in_its_place_is_moved() {
        assert_eq!(statistics("d a a", &["a a c d f".to_owned()]), [3.0, 5.0]);
    }

    /// The list operations of sacrebleu 2.6.0's `_perform_shift`, worked out by hand.
    #[test]
    fn a_run_lands_before_its_target() {
        let words = [0, 1, 2, 3, 4, 5];
        assert_eq!(shifted(&words, 3, 2, 1), [0, 3, 4, 1, 2, 5], "to the left");
        assert_eq!(shifted(&words, 0, 2, 5), [2, 3, 4, 0, 1, 5], "to the right");
        assert_eq!(
            shifted(&words, 1, 2, 2),
            [0, 3, 1, 2, 4, 5],
            "inside the run"
        );
        assert_eq!(
            shifted(&words, 3, 2, 5),
            [0, 1, 2, 5, 3, 4],
            "inside, past the end"
        );
        assert_eq!(shifted(&words, 1, 2, 3), [0, 3, 4, 1, 2, 5], "right behind");
    }

    /// sacrebleu 2.6.0: what lies further than 25 words off the diagonal is not seen, unless the
    /// reference is more than fifty times as long as the text.
    #[test]
    fn edits_are_looked_for_near_the_diagonal() {
        let numbered = |name: char, n: usize| (0..n).map(move |k| format!("{name}{k}"));
        let text = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
        // 31 equal words, thirty places apart: 30 deletions and 30 insertions would do.
        let moved = text(&mut numbered('r', 31).chain(numbered('x', 30)));
        let reference = text(&mut numbered('y', 30).chain(numbered('r', 31)));
        assert_eq!(statistics(&moved, &[reference]), [61.0, 61.0]);
        for (n_words, n_edits) in [(40, 40.0), (50, 50.0), (52, 51.0)] {
            let reference = format!("a {}", text(&mut numbered('b', n_words - 1)));
            let expected = [n_edits, n_words as f64];
            assert_eq!(statistics("a", &[reference]), expected);
        }
    }

    /// Rows reused from the text's matrix must not change a distance.
    #[test]
    fn a_candidate_has_the_distance_of_its_own_matrix() {
        let reference: Vec<WordId> = (0..60).collect();
        let words: Vec<WordId> = (0..40).map(|n| (n * 7) % 43).collect();
        let matrix = EditMatrix::new(&words, &reference);
        for (start, n_words, target) in [(0, 3, 20), (30, 10, 2), (39, 1, 0), (12, 5, 14)] {
            let candidate = shifted(&words, start, n_words, target);
            assert_eq!(
                matrix.distance_of(&candidate, start.min(target)),
                EditMatrix::new(&candidate, &reference).distance(),
            );
        }
        // The last row alone reaches the end of a reference that is far longer.
        let reference: Vec<WordId> = (0..80).collect();
        let (words, candidate) = ([5, 60], [60, 5]);
        assert_eq!(
            EditMatrix::new(&words, &reference).distance_of(&candidate, 0),
            EditMatrix::new(&candidate, &reference).distance(),
        );
    }
}
