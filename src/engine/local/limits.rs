//! How work is cut to size, and whether it fits in memory at all.
//!
//! Nothing here changes an answer: a row has the same bits in any wave, and a sequence
//! is written the same whoever is written beside it. Before the first wave of a call
//! the least memory that its requests need is computed from their tries; where that is
//! more than there is, the call is refused. Waves get smaller and fewer sequences are
//! written at a time before that happens.

use super::architecture::Architecture;
use super::generate;
use super::head::HEAD_ROWS;
use super::memory::free_memory_bytes;
use super::pool::{F32_BYTES, Sizes};
use super::trie::Trie;
use super::window::{Task, windows};
use crate::engine::EngineError;

/// Rows of a wave: enough that reading a weight is small beside multiplying by it.
pub(crate) const WAVE_ROWS: usize = 256;

/// Sequences that are written at a time: enough that a decoding step is bound by
/// arithmetic, not by reading weights.
const N_SLOTS: usize = 32;

/// Rows and scored tokens of a window: minutes of work for the smallest models, and at
/// most about 100 bytes of bookkeeping each.
const WINDOW: usize = 1 << 18;

/// Waves are not made smaller than this to save memory.
const LEAST_WAVE_ROWS: usize = 16;

/// One part in so many of free memory is left alone.
const MARGIN: u64 = 10;

/// How work is cut; changes how it is computed, never what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows that go through the model together, at least 1.
    pub wave_rows: usize,
    /// Sequences that are written at a time, at least 1.
    pub n_slots: usize,
    /// Distinct rows and scored tokens that are planned at a time, at least 1.
    pub window: usize,
    /// Bytes for keys, values and waves, besides the weights; `None` is nine tenths of
    /// what was free when the weights were loaded, or without bound where the system does
    /// not tell.
    pub memory_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wave_rows: WAVE_ROWS,
            n_slots: N_SLOTS,
            window: WINDOW,
            memory_bytes: None,
        }
    }
}

/// Limits that fit in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// Rows of a wave.
    pub wave_rows: usize,
    /// Bytes that keys and values may take.
    pub kv_bytes: u64,
}

/// Bytes that may be used besides what is used now, where the system tells.
pub(crate) fn usable_bytes() -> Option<u64> {
    free_memory_bytes().map(|it| it - it / MARGIN)
}

/// Cuts waves until the tasks fit in memory, if its size is known.
///
/// # Errors
///
/// [`EngineError`] with the bytes needed and free if not even the smallest waves fit.
pub(crate) fn fit(
    a: &Architecture,
    tasks: &[Task<'_>],
    limits: &Limits,
) -> Result<Fitted, EngineError> {
    let mut wave_rows = limits.wave_rows.max(1);
    let Some(free_bytes) = limits.memory_bytes else {
        return Ok(Fitted {
            wave_rows,
            kv_bytes: u64::MAX,
        });
    };
    let mut needed = rough_kv_bytes(a, tasks);
    if free_bytes < needed.saturating_add(work_bytes(a, wave_rows)) {
        needed = least_kv_bytes(a, tasks, limits.window);
    }
    while LEAST_WAVE_ROWS < wave_rows
        && free_bytes < needed.saturating_add(work_bytes(a, wave_rows))
    {
        wave_rows = (wave_rows / 2).max(LEAST_WAVE_ROWS);
    }
    let work_bytes = work_bytes(a, wave_rows);
    let needed_bytes = needed.saturating_add(work_bytes);
    if free_bytes < needed_bytes {
        return Err(EngineError {
            message: format!(
                "the longest request needs {} of memory besides the weights, but {} are free; \
                 use shorter prompts, a smaller `max_tokens` or a smaller model, or free memory",
                megabytes(needed_bytes),
                megabytes(free_bytes)
            ),
        });
    }
    Ok(Fitted {
        wave_rows,
        kv_bytes: free_bytes - work_bytes,
    })
}

fn megabytes(n_bytes: u64) -> String {
    format!("{:.1} MB", n_bytes as f64 / 1e6)
}

/// Not less than [`least_kv_bytes`], without looking at what is shared.
fn rough_kv_bytes(a: &Architecture, tasks: &[Task<'_>]) -> u64 {
    let sizes = Sizes::new(a);
    let of_task = |it: &Task<'_>| {
        // Were every token a node of its own, each block would be rounded up.
        let n_fed = it.fed().len() as u64;
        n_fed
            .saturating_mul(sizes.kept_bytes(1))
            .saturating_add(generate::own_bytes(it, sizes, a.n_context))
    };
    tasks.iter().map(of_task).max().unwrap_or(0)
}

/// The least bytes of keys and values with which every task can be answered.
///
/// That is the longest path of the trie, every block rounded up, and what is written
/// at its end by one sequence at a time. Siblings need no more: what is over is freed
/// before the next one is allocated, if it does not fit beside it.
fn least_kv_bytes(a: &Architecture, tasks: &[Task<'_>], window: usize) -> u64 {
    let sizes = Sizes::new(a);
    let mut least = 0;
    for tasks in windows(tasks, window) {
        let fed: Vec<&[u32]> = tasks.iter().map(Task::fed).collect();
        let trie = Trie::new(&fed);
        let mut of_path: Vec<u64> = Vec::with_capacity(trie.nodes.len());
        for node in &trie.nodes {
            let above = node.parent.map_or(0, |it| of_path[it]);
            of_path.push(sizes.kept_bytes(node.span.len()).saturating_add(above));
        }
        let of_ends = tasks.iter().zip(&trie.last_node).map(|(task, node)| {
            generate::own_bytes(task, sizes, a.n_context).saturating_add(of_path[*node])
        });
        least = least.max(of_ends.max().unwrap_or(0));
    }
    least
}

/// What a wave has in memory besides keys and values: the decoder's buffers, and the
/// logits of rows that are drawn from. The margin is for what each thread needs besides.
pub(crate) fn work_bytes(a: &Architecture, wave_rows: usize) -> u64 {
    let n_attention = 2 * (a.n_head + a.n_kv_head) * a.head_dim;
    let row = 2 * a.n_embd + n_attention + a.n_ff;
    let logits = (HEAD_ROWS * a.n_vocab) as u64;
    let rows = (wave_rows as u64).saturating_mul(row as u64);
    F32_BYTES.saturating_mul(rows.saturating_add(logits))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::request::{GenerationParams, Request, Sampling};

    fn generation(n_tokens: usize, max_tokens: usize) -> Request {
        let params = GenerationParams {
            max_tokens,
            stop: vec![],
            sampling: Sampling::Greedy,
            repetition_penalty: 1.0,
        };
        Request::generation(vec![7; n_tokens], Arc::new(params))
    }

    fn fitted(requests: &[Request], memory_bytes: u64) -> Result<Fitted, EngineError> {
        let mut tasks: Vec<Task<'_>> = (0..)
            .zip(requests)
            .map(|(index, request)| Task { index, request })
            .collect();
        crate::engine::local::window::sort(&mut tasks);
        let limits = Limits {
            memory_bytes: Some(memory_bytes),
            ..Limits::default()
        };
        fit(&Architecture::small(), &tasks, &limits)
    }

    /// Bytes of one position: keys and values of 3 layers with one head of 4, the values
    /// padded to 32.
    const TOKEN: u64 = 4 * 3 * (4 + 32);

    #[test]
    fn the_least_memory_is_that_of_the_longest_path() {
        let wave = work_bytes(&Architecture::small(), LEAST_WAVE_ROWS);
        let requests = [
            // Fed 39, of which 20 are shared: nodes of 20 and 19 rows, rounded up to 32 each.
            Request::loglikelihood([vec![7; 20], vec![8; 20]].concat(), 30),
            // Nodes of 20 and 10 rows; 99 rows written, in blocks of 64 and 64.
            generation(30, 100),
        ];
        let least = (32 + 32 + 64 + 64) * TOKEN + wave;
        let it = fitted(&requests, least).unwrap();
        assert_eq!((it.wave_rows, it.kv_bytes), (LEAST_WAVE_ROWS, least - wave));
        let err = fitted(&requests, least - 1).unwrap_err();
        // 192 · 432 + 4 · (16 · 56 + 32 · 32) = 90,624 bytes.
        assert_eq!(least, 90_624);
        assert!(err.to_string().contains("needs 0.1 MB"), "{err}");
        // Without the generation the likelihood alone: one node of 39 rows.
        let alone = 64 * TOKEN + wave;
        assert!(fitted(&requests[..1], alone).is_ok());
        assert!(fitted(&requests[..1], alone - 1).is_err());
    }

    #[test]
    fn a_tenth_of_what_is_free_is_left() {
        // What is free changes between the two looks, but hardly by a twentieth.
        if let (Some(free), Some(usable)) = (free_memory_bytes(), usable_bytes()) {
            assert!(usable < free - free / 20, "{usable} of {free}");
        }
    }

    #[test]
    fn waves_get_smaller_before_anything_is_refused() {
        let a = Architecture::small();
        let requests = [generation(30, 10)];
        let wave_rows = |memory_bytes| fitted(&requests, memory_bytes).unwrap().wave_rows;
        let kv = (32 + 32) * TOKEN;
        assert_eq!(wave_rows(u64::MAX), 256);
        assert_eq!(wave_rows(kv + work_bytes(&a, 256)), 256);
        assert_eq!(wave_rows(kv + work_bytes(&a, 256) - 1), 128);
        assert_eq!(wave_rows(kv + work_bytes(&a, 32)), 32);
    }

    /// Numbers of a model or an experiment may be anything.
    #[test]
    fn absurd_lengths_are_refused_without_overflow() {
        let a = Architecture {
            n_context: usize::MAX,
            ..Architecture::small()
        };
        let request = generation(3, usize::MAX);
        let task = Task {
            index: 0,
            request: &request,
        };
        let limits = Limits {
            memory_bytes: Some(1 << 40),
            ..Limits::default()
        };
        assert!(fit(&a, &[task], &limits).is_err());
    }
}
