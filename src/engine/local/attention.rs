//! Causal attention over ancestor ranges.
//!
//! The keys a row sees are a list of [`Span`]s in position order: the blocks of
//! its shared past, then its own segment up to itself. Where the ranges lie is
//! only an address: for each query the scores are one chain over the head's
//! dimensions, the maximum is exact, the sum of exponentials runs in lanes fixed
//! by absolute position, and the weighted sum of values is one chain in position
//! order. The result does not depend on how the past was split into blocks, nor on
//! whose queries go over a block together, and a row reads nothing of later ones.
//!
//! Queries of neighbouring segments go over the past that they share as one matrix:
//! the choices of a question over the question, sequences that are being written
//! over their common shots.

use std::ops::Range;

use super::arithmetic::Heads;
use super::kernel::{self, Mode, PANEL, Rows};
use super::kv_panels::KvLayer;
use super::vector;

/// A run of visible keys.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// One layer of the block that holds them.
    pub layer: &'a KvLayer,
    /// How many of its positions are visible to the last row of the piece.
    pub len: usize,
}

/// Neighbouring rows of one segment, with what they see beyond what all of a task see.
pub(crate) struct Piece<'a> {
    /// Rows, at least 1.
    pub n_rows: usize,
    /// In position order; the last one is the segment's own and ends with the last row.
    pub spans: Vec<Span<'a>>,
}

impl Piece<'_> {
    /// Keys that the last row sees in `spans`; row `r` sees `n_rows - 1 - r` fewer.
    fn n_keys(&self) -> usize {
        n_keys(&self.spans)
    }
}

/// Room for one task at a time.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// (queries of one key head, D); a query is (row, repetition).
    queries: Vec<f32>,
    /// (queries of one key head, keys)
    weights: Vec<f32>,
    /// (queries of one key head, D)
    sums: Vec<f32>,
    /// (queries of one key head), one over the sum of its weights.
    inverses: Vec<f32>,
    /// Keys that there is room for in a row of `weights`.
    stride: usize,
}

/// Attends for the rows of some neighbouring segments.
///
/// `qkv` has shape (R, (H + 2G)·D), `out` (R, H·D), R the rows of all pieces. Every row
/// sees all of `common`, then the spans of its piece up to itself.
#[inline(always)]
pub(crate) fn attend(
    heads: Heads,
    qkv: &[f32],
    common: &[Span<'_>],
    pieces: &[Piece<'_>],
    room: &mut Room,
    out: &mut [f32],
) {
    let (d, n_rep) = (heads.head_dim, heads.n_rep());
    let (width, qkv_width) = (heads.query_width(), heads.qkv_width());
    let n_queries = qkv.len() / qkv_width * n_rep;
    room.stride = n_keys(common) + pieces.iter().map(Piece::n_keys).max().unwrap_or(0);
    room.weights.resize(n_queries * room.stride, 0.0);
    room.sums.resize(n_queries * d, 0.0);
    for g in 0..heads.n_kv_head {
        room.queries.clear();
        for row in qkv.chunks_exact(qkv_width) {
            let group = &row[g * n_rep * d..(g + 1) * n_rep * d];
            room.queries.extend_from_slice(group);
        }
        scores(heads, room, common, pieces, g);
        exponentials(heads, room, n_keys(common), pieces);
        weighted_values(heads, room, common, pieces, g);
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let out = &mut out[g * n_rep * d..(g + 1) * n_rep * d];
            out.copy_from_slice(&room.sums[r * n_rep * d..(r + 1) * n_rep * d]);
        }
    }
}

fn n_keys(spans: &[Span<'_>]) -> usize {
    spans.iter().map(|it| it.len).sum()
}

/// The queries of each piece, in order.
fn queries_of(pieces: &[Piece<'_>], n_rep: usize) -> impl Iterator<Item = Range<usize>> {
    pieces.iter().scan(0, move |first, piece| {
        let queries = *first..*first + piece.n_rows * n_rep;
        *first = queries.end;
        Some(queries)
    })
}

/// `weights[query][key] = q·k` for every key of every query's spans.
fn scores(heads: Heads, room: &mut Room, common: &[Span<'_>], pieces: &[Piece<'_>], g: usize) {
    let (d, stride) = (heads.head_dim, room.stride);
    let mut multiply = |queries: Range<usize>, spans: &[Span<'_>], mut at: usize| {
        for span in spans {
            for index in 0..span.len.div_ceil(PANEL) {
                let from = index * PANEL;
                let rows = Rows {
                    values: &room.queries[queries.start * d..],
                    stride: d,
                    n: queries.len(),
                };
                let out = &mut room.weights[queries.start * stride + at + from..];
                let width = PANEL.min(span.len - from);
                let keys = span.layer.keys(g, index);
                kernel::multiply(rows, keys, out, stride, width, Mode::Set);
            }
            at += span.len;
        }
    };
    multiply(0..room.queries.len() / d, common, 0);
    for (piece, queries) in pieces.iter().zip(queries_of(pieces, heads.n_rep())) {
        multiply(queries, &piece.spans, n_keys(common));
    }
}

/// Turns scores into weights that are still to be divided by their sum.
#[inline(always)]
fn exponentials(heads: Heads, room: &mut Room, n_common: usize, pieces: &[Piece<'_>]) {
    let n_rep = heads.n_rep();
    let mut weights = room.weights.chunks_exact_mut(room.stride);
    room.inverses.clear();
    for piece in pieces {
        let n_keys = n_common + piece.n_keys();
        for query in 0..piece.n_rows * n_rep {
            let weights = weights.next().expect("a row of weights for every query");
            let visible = &mut weights[..n_keys + 1 + query / n_rep - piece.n_rows];
            let sum = vector::exp_scaled(visible, heads.scale);
            room.inverses.push(1.0 / sum);
        }
    }
}

/// Leaves `sum_j weight_j · value_j / sum_j weight_j` in `room.sums`.
#[inline(always)]
fn weighted_values(
    heads: Heads,
    room: &mut Room,
    common: &[Span<'_>],
    pieces: &[Piece<'_>],
    g: usize,
) {
    let (d, n_rep, stride) = (heads.head_dim, heads.n_rep(), room.stride);
    let Room {
        weights,
        sums,
        inverses,
        ..
    } = room;
    let mut add = |queries: Range<usize>, span: Span<'_>, keys: Range<usize>, at: usize| {
        // The chain of a query goes on from span to span.
        let mode = if at == 0 { Mode::Set } else { Mode::Continue };
        for index in 0..d.div_ceil(PANEL) {
            let weights = Rows {
                values: &weights[queries.start * stride + at..],
                stride,
                n: queries.len(),
            };
            let values = span.layer.values(g, index, keys.clone());
            let column = index * PANEL;
            let sums = &mut sums[queries.start * d + column..];
            kernel::multiply(weights, values, sums, d, PANEL.min(d - column), mode);
        }
    };
    let n_queries = inverses.len();
    let mut at = 0;
    for span in common {
        add(0..n_queries, *span, 0..span.len, at);
        at += span.len;
    }
    for (piece, queries) in pieces.iter().zip(queries_of(pieces, n_rep)) {
        // What all rows of the piece see; row `r` sees `r` more, at the end of the last span.
        let n_together = piece.n_keys() + 1 - piece.n_rows;
        let mut n_before = 0;
        for span in &piece.spans {
            let n = span.len.min(n_together - n_before);
            if n > 0 {
                add(queries.clone(), *span, 0..n, at + n_before);
                n_before += n;
            }
        }
        let own = *piece.spans.last().expect("a row sees itself");
        let first = own.len + 1 - piece.n_rows;
        for row in 1..piece.n_rows {
            let of_row = queries.start + row * n_rep..queries.start + (row + 1) * n_rep;
            add(of_row, own, first..first + row, at + n_together);
        }
    }
    for (sums, inverse) in sums.chunks_exact_mut(d).zip(inverses) {
        for sum in sums {
            *sum *= *inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::local::kv::{KvStore, Shape};
    use crate::engine::local::kv_panels::{Entry, write};

    fn value(seed: usize) -> f32 {
        ((seed * 7919 + 13) % 1009) as f32 / 300.0 - 1.6
    }

    const HEADS: Heads = Heads {
        n_head: 6,
        n_kv_head: 2,
        head_dim: 24,
        scale: 0.25,
    };

    /// Attention of the last `n_rows` of `n` tokens, the past cut into blocks as told.
    fn run(n: usize, n_rows: usize, cuts: &[usize]) -> Vec<f32> {
        let mut kv = KvStore::new(1, Shape::from(HEADS));
        let (width, kv_width) = (6 * 24, 2 * 24);
        let mut blocks = Vec::new();
        let mut position = 0;
        for end in cuts.iter().copied().chain([n]) {
            let block = kv.kept(end - position);
            let rows: Vec<Vec<f32>> = (position..end)
                .map(|at| {
                    let keys = (0..kv_width).map(|i| value(at * 101 + i));
                    keys.chain((0..kv_width).map(|i| value(at * 211 + i + 5)))
                        .collect()
                })
                .collect();
            let entry = Entry {
                block,
                rows: 0..rows.len(),
            };
            write(&mut kv, HEADS.into(), 0, vec![entry], |row| &rows[row]);
            blocks.push((block, end - position));
            position = end;
        }
        let unread = f32::NAN;
        let qkv: Vec<f32> = (n - n_rows..n)
            .flat_map(|r| {
                let query = (0..width).map(move |i| value(r * 331 + i + 9));
                query.chain(std::iter::repeat_n(unread, 2 * kv_width))
            })
            .collect();
        let spans = blocks.iter().map(|(id, len)| Span {
            layer: kv.block(*id).layer(0),
            len: *len,
        });
        let piece = Piece {
            n_rows,
            spans: spans.collect(),
        };
        attend_all(&qkv, &[], &[piece])
    }

    fn attend_all(qkv: &[f32], common: &[Span<'_>], pieces: &[Piece<'_>]) -> Vec<f32> {
        let n_rows = pieces.iter().map(|it| it.n_rows).sum::<usize>();
        let mut out = vec![0.0; n_rows * HEADS.n_head * HEADS.head_dim];
        let mut room = Room::default();
        vector::fast(
            #[inline(always)]
            || attend(HEADS, qkv, common, pieces, &mut room, &mut out),
        );
        out
    }

    /// The textbook formula in f64.
    fn reference(n: usize, row: usize, head: usize) -> Vec<f64> {
        let g = head / 3;
        let at = |seed: usize| f64::from(value(seed));
        let score = |j: usize| -> f64 {
            (0..24)
                .map(|d| at(row * 331 + head * 24 + d + 9) * at(j * 101 + g * 24 + d))
                .sum()
        };
        let weights: Vec<f64> = (0..=row).map(|j| (score(j) * 0.25).exp()).collect();
        let total: f64 = weights.iter().sum();
        assert!(row < n);
        (0..24)
            .map(|d| {
                let sum: f64 = weights
                    .iter()
                    .enumerate()
                    .map(|(j, w)| w * at(j * 211 + g * 24 + d + 5))
                    .sum();
                sum / total
            })
            .collect()
    }

    #[test]
    fn attention_is_the_textbook_formula() {
        let (n, n_rows) = (37, 5);
        let got = run(n, n_rows, &[]);
        for r in 0..n_rows {
            for head in 0..6 {
                let want = reference(n, n - n_rows + r, head);
                for (d, want) in want.iter().enumerate() {
                    let got = f64::from(got[r * 144 + head * 24 + d]);
                    assert!(
                        (got - want).abs() < 1e-5,
                        "row {r} head {head} d {d}: {got} {want}"
                    );
                }
            }
        }
    }

    /// Where the past lies is only an address.
    #[test]
    fn cutting_the_past_into_blocks_does_not_change_a_bit() {
        let whole = run(61, 3, &[]);
        for cuts in [&[1][..], &[16], &[17, 18], &[5, 20, 41, 57]] {
            assert_eq!(run(61, 3, cuts), whole, "cut at {cuts:?}");
        }
    }

    #[test]
    fn a_row_alone_equals_the_row_among_others() {
        let many = run(40, 7, &[20]);
        assert_eq!(run(40, 1, &[20]), many[6 * 144..]);
        assert_eq!(run(40, 2, &[20]), many[5 * 144..]);
    }

    /// Segments that go over their common past together read what each would read alone.
    #[test]
    fn whose_queries_go_together_does_not_change_a_bit() {
        let mut kv = KvStore::new(1, Shape::from(HEADS));
        let mut block = |n: usize, seed: usize| {
            let id = kv.kept(n);
            let kv_width = 2 * HEADS.n_kv_head * HEADS.head_dim;
            let values = (0..n * kv_width).map(|i| value(i * 13 + seed));
            let rows: Vec<f32> = values.collect();
            let entry = Entry {
                block: id,
                rows: 0..n,
            };
            write(&mut kv, HEADS.into(), 0, vec![entry], |row| {
                &rows[row * kv_width..][..kv_width]
            });
            (id, n)
        };
        let common = [block(40, 1), block(7, 2)];
        // Rows, and blocks beyond the common ones; the last is the segment's own.
        let pieces = [
            (3, vec![block(3, 3)]),
            (1, vec![block(33, 4), block(5, 5)]),
            (2, vec![block(9, 6)]),
        ];
        let span = |(id, len): &(_, usize)| Span {
            layer: kv.block(*id).layer(0),
            len: *len,
        };
        let common: Vec<Span<'_>> = common.iter().map(span).collect();
        let qkv_width = (HEADS.n_head + 2 * HEADS.n_kv_head) * HEADS.head_dim;
        let qkv: Vec<f32> = (0..6 * qkv_width).map(|i| value(i * 3 + 7)).collect();
        let mut alone = Vec::new();
        let mut first = 0;
        for (n_rows, own) in &pieces {
            let spans = common.iter().copied().chain(own.iter().map(span)).collect();
            let qkv = &qkv[first * qkv_width..(first + n_rows) * qkv_width];
            let piece = Piece {
                n_rows: *n_rows,
                spans,
            };
            alone.extend(attend_all(qkv, &[], &[piece]));
            first += n_rows;
        }
        let pieces: Vec<Piece<'_>> = pieces
            .iter()
            .map(|(n_rows, own)| Piece {
                n_rows: *n_rows,
                spans: own.iter().map(span).collect(),
            })
            .collect();
        assert_eq!(attend_all(&qkv, &common, &pieces), alone);
    }
}
