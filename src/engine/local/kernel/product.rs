//! Products of some rows with a whole weight.
//!
//! A task has a panel and some rows. Tasks go to all threads where the rows are all there
//! are; where every thread has rows of its own, it does all tasks of its rows itself. What is
//! done with a finished chain happens while it is still in the cache: [`product`] stores it
//! or adds it, [`gated_product`] combines the chains of two panels.

use rayon::prelude::*;

use super::{Isa, Lanes, Mode, PANEL, Panels, TILE_ROWS, Tile, run};

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// All threads.
    Threads,
    /// The thread that asks: the others have products of their own.
    Here,
}

/// A weight with its bias.
#[derive(Debug)]
pub(crate) struct Affine<'a, P> {
    /// (k, n)
    pub weight: &'a P,
    /// (n)
    pub bias: Option<&'a [f32]>,
}

/// `out (mode)= x · weight + bias`: `x` (T, k), `out` (T, columns of `weight`).
///
/// # Panics
///
/// If a length contradicts the shapes: a bug.
pub(crate) fn product<P: Panels>(
    spread: Spread,
    x: &[f32],
    weight: &Affine<'_, P>,
    out: &mut [f32],
    mode: Mode,
) {
    product_on(Isa::best(), spread, x, weight, out, mode);
}

#[expect(unsafe_code, reason = "tasks write different columns of the same rows")]
pub(super) fn product_on<P: Panels>(
    isa: Isa,
    spread: Spread,
    x: &[f32],
    Affine { weight, bias }: &Affine<'_, P>,
    out: &mut [f32],
    mode: Mode,
) {
    let (k, n) = weight.shape();
    let split = Split::new(spread, x.len(), k, weight.n_panels());
    assert!(out.len() == split.n_rows * n);
    assert!(bias.is_none_or(|it| it.len() == n));
    let shared = Shared(out.as_mut_ptr());
    let task = |scratch: &mut Vec<Lanes>, task: usize| {
        let (index, first, n_rows) = split.task(task);
        let column = index * PANEL;
        let tile = Tile {
            x: x[first * k..].as_ptr(),
            x_stride: k,
            out: shared.at(first * n + column),
            out_stride: n,
            width: PANEL.min(n - column),
            bias: bias.map_or(std::ptr::null(), |it| it[column..].as_ptr()),
            mode,
            ..Tile::of_panel(*weight, index, n_rows, scratch)
        };
        // SAFETY: `first + n_rows` is at most the rows of `x` and `out`, whose lengths were
        // checked, and `column + width <= n`; no other task has these columns of these rows.
        unsafe { run(isa, tile, n_rows) }
    };
    split.run(task);
}

/// `out = combine(x · gate + its bias, x · up + its bias)`: `x` (T, k), `out` (T, n).
///
/// `combine(gate, up)` gets the chains of some rows and columns, element beside element,
/// and leaves the outcome in `gate`.
///
/// # Panics
///
/// If a length contradicts the shapes: a bug.
#[expect(unsafe_code, reason = "tasks write different columns of the same rows")]
pub(crate) fn gated_product<P: Panels>(
    spread: Spread,
    x: &[f32],
    gate: &Affine<'_, P>,
    up: &Affine<'_, P>,
    out: &mut [f32],
    combine: impl Fn(&mut [f32], &[f32]) + Send + Sync,
) {
    let isa = Isa::best();
    let (k, n) = gate.weight.shape();
    let split = Split::new(spread, x.len(), k, gate.weight.n_panels());
    assert!(up.weight.shape() == (k, n) && out.len() == split.n_rows * n);
    assert!([gate, up].map(|it| it.bias.is_none_or(|bias| bias.len() == n)) == [true; 2]);
    let shared = Shared(out.as_mut_ptr());
    let task = |scratch: &mut [Vec<Lanes>; 2], task: usize| {
        let (index, first, n_rows) = split.task(task);
        let column = index * PANEL;
        let width = PANEL.min(n - column);
        let [of_gate, of_up] = scratch;
        let mut tiles = [(gate, of_gate), (up, of_up)].map(|(it, scratch)| Tile {
            x: x[first * k..].as_ptr(),
            x_stride: k,
            out_stride: PANEL,
            width,
            bias: it.bias.map_or(std::ptr::null(), |it| it[column..].as_ptr()),
            ..Tile::of_panel(it.weight, index, n_rows, scratch)
        });
        let mut chains = [[0.0f32; TILE_ROWS * PANEL]; 2];
        for from in (0..n_rows).step_by(TILE_ROWS) {
            let n_here = TILE_ROWS.min(n_rows - from);
            for (tile, chains) in tiles.iter_mut().zip(&mut chains) {
                tile.out = chains.as_mut_ptr();
                // SAFETY: these rows are inside `x`, whose length was checked; `chains` has
                // room for a tile of rows and is this task's own.
                unsafe { run(isa, *tile, n_here) }
                tile.next_rows(n_here);
            }
            let [gate, up] = &mut chains;
            combine(&mut gate[..n_here * PANEL], &up[..n_here * PANEL]);
            for (row, chains) in gate.chunks_exact(PANEL).take(n_here).enumerate() {
                let at = shared.at((first + from + row) * n + column);
                // SAFETY: the row is inside `out`, whose length was checked, and no other
                // task has these columns of it.
                unsafe { std::slice::from_raw_parts_mut(at, width) }
                    .copy_from_slice(&chains[..width]);
            }
        }
    };
    split.run(task);
}

/// A pointer that tasks share.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
#[expect(unsafe_code, reason = "a pointer is only an address")]
// SAFETY: the products give every task columns and rows of its own.
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "a pointer is only an address")]
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// How rows and panels become tasks.
struct Split {
    spread: Spread,
    n_rows: usize,
    n_panels: usize,
    rows_per_task: usize,
}

impl Split {
    /// Of `n_values` floats in rows of `k`.
    fn new(spread: Spread, n_values: usize, k: usize, n_panels: usize) -> Self {
        let n_rows = n_values / k;
        assert!(n_values == n_rows * k);
        Self {
            spread,
            n_rows,
            n_panels,
            rows_per_task: match spread {
                Spread::Threads => rows_per_task(n_rows, n_panels),
                Spread::Here => n_rows.max(1),
            },
        }
    }

    /// Does all tasks, each with the room of whoever does it.
    fn run<S: Default>(&self, task: impl Fn(&mut S, usize) + Send + Sync) {
        let tasks = 0..self.n_tasks();
        match self.spread {
            Spread::Threads => tasks
                .into_par_iter()
                // Halves of halves would leave one thread with several panels at the end.
                .with_max_len(1)
                .for_each_init(S::default, task),
            Spread::Here => {
                let mut room = S::default();
                tasks.for_each(|it| task(&mut room, it));
            }
        }
    }

    fn n_tasks(&self) -> usize {
        self.n_panels * self.n_rows.div_ceil(self.rows_per_task)
    }

    /// Panel, first row and number of rows of a task.
    fn task(&self, task: usize) -> (usize, usize, usize) {
        let n_blocks = self.n_rows.div_ceil(self.rows_per_task);
        let (index, first) = (task / n_blocks, task % n_blocks * self.rows_per_task);
        (index, first, self.rows_per_task.min(self.n_rows - first))
    }
}

impl Tile {
    /// A tile that multiplies by panel `index` of `weight` and fetches the next one ahead.
    fn of_panel(
        weight: &impl Panels,
        index: usize,
        n_rows: usize,
        scratch: &mut Vec<Lanes>,
    ) -> Self {
        let ahead = if weight.is_kept() && index + 1 < weight.n_panels() {
            weight.panel(index + 1, &mut Vec::new()).as_ptr()
        } else {
            std::ptr::null()
        };
        let k = weight.shape().0;
        let panel = weight.panel(index, scratch);
        assert!(panel.len() == 2 * k);
        Self {
            x: std::ptr::null(),
            x_stride: 0,
            panel: panel.as_ptr(),
            k,
            out: std::ptr::null_mut(),
            out_stride: 0,
            width: 0,
            bias: std::ptr::null(),
            mode: Mode::Set,
            ahead,
            // From some 40 rows on, all tiles together fetch the 2k lines of the next panel.
            steps_per_line: (n_rows / (2 * TILE_ROWS)).max(1),
        }
    }
}

/// Rows of one task: all of them, unless there are too few panels for the threads.
fn rows_per_task(n_rows: usize, n_panels: usize) -> usize {
    let wanted_tasks = 4 * rayon::current_num_threads();
    let n_blocks = wanted_tasks.div_ceil(n_panels.max(1));
    // Fewer than four tiles of rows would not pay for reading the panel again.
    n_rows
        .div_ceil(n_blocks)
        .next_multiple_of(TILE_ROWS)
        .max(4 * TILE_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_only_where_panels_are_few() {
        let n_threads = rayon::current_num_threads();
        assert_eq!(rows_per_task(252, 4 * n_threads), 252);
        assert!(rows_per_task(10_000, 1) < 10_000);
        assert_eq!(rows_per_task(5, 1), 4 * TILE_ROWS);
    }
}
