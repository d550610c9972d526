//! Causal attention over ancestor ranges.
//!
//! The keys a row sees are a list of [`Span`]s in position order: the blocks of
//! its shared past, then its own segment up to itself. Where the ranges lie is
//! only an address: for each query the scores are one chain over the head's
//! dimensions, the maximum is exact, the sum of exponentials runs in lanes fixed
//! by absolute position, and the weighted sum of values is one chain in position
//! order. The result does not depend on how the past was split into blocks.

use super::kv::{KEY_TILE, KvLayer};
use super::vector;

/// Queries that share one pass over the keys.
const QUERIES: usize = 4;

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

/// Attends for R neighbouring rows of one segment.
///
/// `queries` and `out` have shape (R, H·D). Row `r` sees all of `spans` but the
/// last `R − 1 − r` positions: its own segment's keys come last.
#[inline(always)]
pub(crate) fn attend(heads: Heads, queries: &[f32], spans: &[Span<'_>], out: &mut [f32]) {
    let Heads {
        n_head,
        n_kv_head,
        head_dim,
        scale,
    } = heads;
    let width = n_head * head_dim;
    let n_rows = queries.len() / width;
    let n_rep = n_head / n_kv_head;
    let n_keys: usize = spans.iter().map(|it| it.len).sum();
    let stride = n_keys.next_multiple_of(KEY_TILE) + KEY_TILE;
    let n_queries = n_rows * n_rep;
    // (queries of one key head, keys); a query is (row, repetition).
    let mut weights = vec![0f32; n_queries * stride];
    let mut inverse_sums = vec![0f32; n_queries];
    for g in 0..n_kv_head {
        let column = |query: usize| {
            let (row, rep) = (query / n_rep, query % n_rep);
            row * width + (g * n_rep + rep) * head_dim
        };
        let query = |it: usize| &queries[column(it)..column(it) + head_dim];
        let mut first = 0;
        while first < n_queries {
            let rows = &mut weights[first * stride..];
            if first + QUERIES <= n_queries {
                let group: [&[f32]; QUERIES] = std::array::from_fn(|i| query(first + i));
                scores(group, spans, g, scale, rows, stride);
                first += QUERIES;
            } else {
                scores([query(first)], spans, g, scale, rows, stride);
                first += 1;
            }
        }
        for (i, row) in weights.chunks_exact_mut(stride).enumerate() {
            let n_visible = n_keys - (n_rows - 1 - i / n_rep);
            inverse_sums[i] = 1.0 / vector::exp_shifted(&mut row[..n_visible]);
            row[n_visible..].fill(0.0);
        }
        let mut first = 0;
        while first < n_queries {
            if first + QUERIES <= n_queries {
                let at: [usize; QUERIES] = std::array::from_fn(|i| first + i);
                weighted_values(
                    at,
                    &weights,
                    stride,
                    &inverse_sums,
                    spans,
                    heads,
                    g,
                    column,
                    out,
                );
                first += QUERIES;
            } else {
                let at = [first];
                weighted_values(
                    at,
                    &weights,
                    stride,
                    &inverse_sums,
                    spans,
                    heads,
                    g,
                    column,
                    out,
                );
                first += 1;
            }
        }
    }
}

/// Writes `scale · q·k` for every key of `spans` to row `i` of `out` for query `i`.
#[inline(always)]
fn scores<const Q: usize>(
    queries: [&[f32]; Q],
    spans: &[Span<'_>],
    g: usize,
    scale: f32,
    out: &mut [f32],
    stride: usize,
) {
    let head_dim = queries[0].len();
    let mut offset = 0;
    for span in spans {
        let capacity = span.layer.capacity;
        let keys = &span.layer.keys[g * head_dim * capacity..(g + 1) * head_dim * capacity];
        let mut at = 0;
        while at < span.len {
            let mut sums = [[0f32; KEY_TILE]; Q];
            for d in 0..head_dim {
                let tile = &keys[d * capacity + at..d * capacity + at + KEY_TILE];
                for (sums, query) in sums.iter_mut().zip(&queries) {
                    let q = query[d];
                    for (sum, k) in sums.iter_mut().zip(tile) {
                        *sum = q.mul_add(*k, *sum);
                    }
                }
            }
            // A tile may reach past the span; what it writes there is overwritten
            // by the next span, or lies past the last key and is zeroed later.
            for (i, sums) in sums.iter().enumerate() {
                let row = &mut out[i * stride + offset + at..i * stride + offset + at + KEY_TILE];
                for (out, sum) in row.iter_mut().zip(sums) {
                    *out = sum * scale;
                }
            }
            at += KEY_TILE;
        }
        offset += span.len;
    }
}

/// `out[query] = sum_j weight[query][j] · value[j] / sum`, one chain in position order.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "one step of `attend`, kept apart for its loop"
)]
fn weighted_values<const Q: usize>(
    queries: [usize; Q],
    weights: &[f32],
    stride: usize,
    inverse_sums: &[f32],
    spans: &[Span<'_>],
    heads: Heads,
    g: usize,
    column: impl Fn(usize) -> usize,
    out: &mut [f32],
) {
    const WIDE: usize = 16;
    let head_dim = heads.head_dim;
    let mut d = 0;
    while d < head_dim {
        let width = WIDE.min(head_dim - d);
        let mut sums = [[0f32; WIDE]; Q];
        let mut offset = 0;
        for span in spans {
            let start = g * span.layer.capacity * head_dim;
            let values = &span.layer.values[start..start + span.len * head_dim];
            for j in 0..span.len {
                let value = &values[j * head_dim + d..j * head_dim + d + width];
                for (sums, query) in sums.iter_mut().zip(&queries) {
                    let weight = weights[query * stride + offset + j];
                    if width == WIDE {
                        let value: &[f32; WIDE] = value.try_into().expect("the width was checked");
                        for (sum, v) in sums.iter_mut().zip(value) {
                            *sum = weight.mul_add(*v, *sum);
                        }
                    } else {
                        for (sum, v) in sums.iter_mut().zip(value) {
                            *sum = weight.mul_add(*v, *sum);
                        }
                    }
                }
            }
            offset += span.len;
        }
        for (sums, query) in sums.iter().zip(&queries) {
            let start = column(*query) + d;
            for (out, sum) in out[start..start + width].iter_mut().zip(sums) {
                *out = sum * inverse_sums[*query];
            }
        }
        d += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::local::kv::KvStore;

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
            for at in position..end {
                let key: Vec<f32> = (0..kv_width).map(|i| value(at * 101 + i)).collect();
                let val: Vec<f32> = (0..kv_width).map(|i| value(at * 211 + i + 5)).collect();
                kv.write(block, 0, at - position, &key, &val);
            }
            blocks.push((block, end - position));
            position = end;
        }
        let queries: Vec<f32> = (n - n_rows..n)
            .flat_map(|r| (0..width).map(move |i| value(r * 331 + i + 9)))
            .collect();
        let spans: Vec<Span<'_>> = blocks
            .iter()
            .map(|(id, len)| Span {
                layer: kv.layer(*id, 0),
                len: *len,
            })
            .collect();
        let mut out = vec![0.0; queries.len()];
        vector::fast(
            #[inline(always)]
            || attend(HEADS, &queries, &spans, &mut out),
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
