//! Waves: rows that go through the model together, and what of them attends together.

use std::ops::Range;

use super::kv::BlockId;

/// Rows to compute together.
#[derive(Debug, Default)]
pub(crate) struct Wave {
    /// One token per row.
    pub tokens: Vec<u32>,
    /// Runs of rows; together they cover all rows in order.
    pub segments: Vec<Segment>,
}

/// Consecutive tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its rows in the wave.
    pub rows: Range<usize>,
    /// Position of its first row.
    pub start: usize,
    /// Blocks of the past in position order, each with the tokens it holds once its
    /// own wave is done; they may belong to the wave at hand.
    pub past: Vec<(BlockId, usize)>,
    /// Where its own keys and values go, after the tokens already there.
    pub block: BlockId,
}

impl Wave {
    /// The position of every row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.segments
            .iter()
            .flat_map(|it| it.start..it.start + it.rows.len())
    }
}

/// Rows of one group at most: enough that a block of keys is read for several tiles of
/// queries, few enough that a wave has work for all threads.
const GROUP_ROWS: usize = 16;

/// Neighbouring rows whose queries go over a common past together.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// Segments, each with the rows of it that take part; at least one.
    pub pieces: Vec<(&'a Segment, Range<usize>)>,
    /// Blocks that the pasts of all of them begin with.
    n_common: usize,
}

/// Cuts some rows of a wave into groups, in order.
///
/// Long segments are cut. Short ones stay together with their neighbours where most of
/// what they attend to is the same: the choices of a question, sequences that are written
/// from one beginning.
pub(crate) fn groups<'a>(segments: &'a [Segment], rows: &Range<usize>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for segment in segments {
        let (start, end) = (
            segment.rows.start.max(rows.start),
            segment.rows.end.min(rows.end),
        );
        for from in (start..end).step_by(GROUP_ROWS) {
            let rows = from..end.min(from + GROUP_ROWS);
            let is_taken = groups.last_mut().is_some_and(|it| it.take(segment, &rows));
            if !is_taken {
                groups.push(Group {
                    pieces: vec![(segment, rows)],
                    n_common: segment.past.len(),
                });
            }
        }
    }
    groups
}

impl<'a> Group<'a> {
    /// The rows of all pieces; they are neighbours.
    pub(crate) fn rows(&self) -> Range<usize> {
        let (first, last) = (&self.pieces[0].1, &self.pieces[self.pieces.len() - 1].1);
        first.start..last.end
    }

    /// The past that all pieces share.
    pub(crate) fn common(&self) -> &'a [(BlockId, usize)] {
        let (segment, _) = self.pieces[0];
        &segment.past[..self.n_common]
    }

    /// The rest of the past of one of the pieces.
    pub(crate) fn rest(&self, segment: &'a Segment) -> &'a [(BlockId, usize)] {
        &segment.past[self.n_common..]
    }

    /// Takes the first rows of the next segment in, if that is worth it.
    fn take(&mut self, segment: &'a Segment, rows: &Range<usize>) -> bool {
        let n_rows = self.rows().len() + rows.len();
        if GROUP_ROWS < n_rows || rows.start != segment.rows.start {
            return false;
        }
        let common = self.common().iter().zip(&segment.past);
        let n_common = common.take_while(|(a, b)| a == b).count();
        let n_keys = |blocks: &[(BlockId, usize)]| blocks.iter().map(|it| it.1).sum::<usize>();
        let is_most = |past: &[(BlockId, usize)]| {
            0 < n_common && n_keys(past) <= 2 * n_keys(&past[..n_common])
        };
        // Those who are here already lose nothing but what two of them do not share.
        let is_alike = n_common == self.n_common || self.pieces.len() == 1;
        let is_worth_it = is_alike && is_most(&segment.past) && is_most(&self.pieces[0].0.past);
        if is_worth_it {
            self.n_common = n_common;
            self.pieces.push((segment, rows.clone()));
        }
        is_worth_it
    }
}

#[cfg(test)]
mod tests {
    use super::super::kv::{KvStore, Shape};
    use super::super::kv_panels::KvPanels;
    use super::*;

    /// Segments of a wave: rows, and names of the past's blocks with their tokens.
    fn segments(of: &[(usize, &[(usize, usize)])]) -> Vec<Segment> {
        let shape = Shape {
            n_kv_head: 1,
            head_dim: 1,
        };
        let mut kv: KvStore<KvPanels> = KvStore::new(1, shape);
        let ids: Vec<BlockId> = (0..10).map(|_| kv.kept(1)).collect();
        let mut first = 0;
        let mut segments = Vec::new();
        for (n_rows, past) in of {
            segments.push(Segment {
                rows: first..first + n_rows,
                start: past.iter().map(|it| it.1).sum(),
                past: past.iter().map(|it| (ids[it.0], it.1)).collect(),
                block: ids[9],
            });
            first += n_rows;
        }
        segments
    }

    /// Rows of each group, and how many blocks are common.
    fn grouped(of: &[(usize, &[(usize, usize)])]) -> Vec<(Range<usize>, usize)> {
        let segments = segments(of);
        let n_rows = segments.last().map_or(0, |it| it.rows.end);
        let groups = groups(&segments, &(0..n_rows));
        groups
            .iter()
            .map(|it| (it.rows(), it.common().len()))
            .collect()
    }

    #[test]
    fn choices_go_over_their_question_together() {
        let question: &[(usize, usize)] = &[(0, 300)];
        let choice: &[(usize, usize)] = &[(0, 300), (1, 40)];
        let other: &[(usize, usize)] = &[(0, 300), (2, 50)];
        let wave = [
            (40, question),
            (2, choice),
            (3, choice),
            (1, choice),
            (50, question),
            (2, other),
            (2, other),
        ];
        // The last rows of a question and its first choice have the shots in common.
        let want = [
            (0..16, 1),
            (16..32, 1),
            (32..46, 1),
            (46..62, 1),
            (62..78, 1),
            (78..94, 1),
            (94..100, 1),
        ];
        assert_eq!(grouped(&wave), want);
        // Without shots there is nothing in common with the question's own rows.
        let alone: [(usize, &[(usize, usize)]); 3] = [(40, &[]), (2, &[(1, 40)]), (3, &[(1, 40)])];
        let want = [(0..16, 0), (16..32, 0), (32..40, 0), (40..45, 1)];
        assert_eq!(grouped(&alone), want);
    }

    #[test]
    fn sequences_go_over_their_common_beginning_together() {
        let rows: Vec<(usize, Vec<(usize, usize)>)> = (0..20)
            .map(|i| (1, vec![(0, 100), (1 + i % 8, 30)]))
            .collect();
        let rows: Vec<(usize, &[(usize, usize)])> =
            rows.iter().map(|(n, past)| (*n, past.as_slice())).collect();
        assert_eq!(grouped(&rows), [(0..16, 1), (16..20, 1)]);
        // Where most of it is their own, each goes alone.
        let apart: [(usize, &[(usize, usize)]); 2] =
            [(1, &[(0, 10), (1, 30)]), (1, &[(0, 10), (2, 30)])];
        assert_eq!(grouped(&apart), [(0..1, 2), (1..2, 2)]);
    }
}
