//! Causal attention over ancestor ranges.
//!
//! The keys a row sees are a list of [`Span`]s in position order: the blocks of
//! its shared past, then its own segment up to itself. Where the ranges lie is
//! only an address: for each query the scores are one chain over the head's
//! dimensions, the maximum is exact, the sum of exponentials runs in lanes fixed
//! by absolute position, and the weighted sum of values is one chain in position
//! order. The result does not depend on how the past was split into blocks, and a
//! row reads nothing of later ones.

use std::ops::Range;

use super::kernel::{self, Mode, PANEL, Rows};
use super::kv::KvLayer;
use super::vector;

/// A run of visible keys.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    /// One layer of the block that holds them.
    pub layer: &'a KvLayer,
    /// How many of its positions are visible to the last row of the task.
    pub len: usize,
}

/// Shape of the heads, and the scale of the scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads, H.
    pub n_head: usize,
    /// Key heads, G.
    pub n_kv_head: usize,
    /// Width of a head, D.
    pub head_dim: usize,
    /// Multiplies every score; 1/sqrt(D).
    pub scale: f32,
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
}

/// Attends for R neighbouring rows of one segment.
///
/// `qkv` has shape (R, (H + 2G)·D), `out` (R, H·D). Row `r` sees all of `spans` but the
/// last `R − 1 − r` positions: its own segment's keys come last.
#[inline(always)]
pub(crate) fn attend(
    heads: Heads,
    qkv: &[f32],
    spans: &[Span<'_>],
    room: &mut Room,
    out: &mut [f32],
) {
    let d = heads.head_dim;
    let (width, qkv_width) = (heads.n_head * d, (heads.n_head + 2 * heads.n_kv_head) * d);
    let n_rows = qkv.len() / qkv_width;
    let n_rep = heads.n_head / heads.n_kv_head;
    let n_keys: usize = spans.iter().map(|it| it.len).sum();
    room.weights.resize(n_rows * n_rep * n_keys, 0.0);
    room.sums.resize(n_rows * n_rep * d, 0.0);
    for g in 0..heads.n_kv_head {
        room.queries.clear();
        for row in qkv.chunks_exact(qkv_width) {
            let group = &row[g * n_rep * d..(g + 1) * n_rep * d];
            room.queries.extend_from_slice(group);
        }
        scores(room, spans, g, d, n_keys);
        weighted_values(heads, room, spans, g, n_rows);
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let out = &mut out[g * n_rep * d..(g + 1) * n_rep * d];
            out.copy_from_slice(&room.sums[r * n_rep * d..(r + 1) * n_rep * d]);
        }
    }
}

/// `weights[query][key] = q·k` for every key of `spans`.
fn scores(room: &mut Room, spans: &[Span<'_>], g: usize, d: usize, n_keys: usize) {
    let queries = Rows {
        values: &room.queries,
        stride: d,
        n: room.queries.len() / d,
    };
    let mut offset = 0;
    for span in spans {
        for index in 0..span.len.div_ceil(PANEL) {
            let from = index * PANEL;
            let width = PANEL.min(span.len - from);
            let out = &mut room.weights[offset + from..];
            let keys = span.layer.keys(g, index);
            kernel::multiply(queries, keys, out, n_keys, width, Mode::Set);
        }
        offset += span.len;
    }
}

/// Turns scores into weights and leaves `sum_j weight_j · value_j / sum` in `room.sums`.
#[inline(always)]
fn weighted_values(heads: Heads, room: &mut Room, spans: &[Span<'_>], g: usize, n_rows: usize) {
    let d = heads.head_dim;
    let n_rep = heads.n_head / heads.n_kv_head;
    let n_keys: usize = spans.iter().map(|it| it.len).sum();
    // What every row sees; row `r` sees `r` more, all of them at the end of the last span.
    let n_common = n_keys + 1 - n_rows;
    let Room {
        weights,
        sums,
        inverses,
        ..
    } = room;
    inverses.clear();
    for (i, weights) in weights.chunks_exact_mut(n_keys).enumerate() {
        let visible = &mut weights[..n_common + i / n_rep];
        inverses.push(1.0 / vector::exp_scaled(visible, heads.scale));
    }
    let mut add = |span: Span<'_>, keys: Range<usize>, at, queries: Range<usize>, mode| {
        for index in 0..d.div_ceil(PANEL) {
            let weights = Rows {
                values: &weights[queries.start * n_keys + at..],
                stride: n_keys,
                n: queries.len(),
            };
            let values = span.layer.values(g, index, keys.clone());
            let column = index * PANEL;
            let sums = &mut sums[queries.start * d + column..];
            kernel::multiply(weights, values, sums, d, PANEL.min(d - column), mode);
        }
    };
    let mut mode = Mode::Set;
    let mut at = 0;
    for span in spans {
        let n = span.len.min(n_common - at);
        if n > 0 {
            add(*span, 0..n, at, 0..n_rows * n_rep, mode);
            mode = Mode::Continue;
            at += n;
        }
    }
    let own = spans.last().expect("a row sees itself");
    let first = own.len + 1 - n_rows;
    for row in 1..n_rows {
        let queries = row * n_rep..(row + 1) * n_rep;
        add(*own, first..first + row, n_common, queries, mode);
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
    use crate::engine::local::kv::{Entry, KvStore};

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
        let mut kv = KvStore::new(1, HEADS.n_kv_head, HEADS.head_dim);
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
            kv.write(0, &[entry], |row| &rows[row]);
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
        let spans: Vec<Span<'_>> = blocks
            .iter()
            .map(|(id, len)| Span {
                layer: kv.layer(*id, 0),
                len: *len,
            })
            .collect();
        let mut out = vec![0.0; n_rows * width];
        vector::fast(
            #[inline(always)]
            || attend(HEADS, &qkv, &spans, &mut Room::default(), &mut out),
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
}
