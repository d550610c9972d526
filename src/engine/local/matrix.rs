//! Weight matrices as the products read them: panels of 32 columns.
//!
//! A [`Matrix`] maps `k` inputs to `n` outputs and may be made of several stored
//! tensors side by side. It either keeps its panels as f32, or keeps the stored
//! blocks and decodes a panel whenever one is read: the same values into the same
//! loop, so the same bits, for less memory and more time.
//!
//! ```text
//! panels  (n / 32, k, 32)     zeros past column n
//! ```

use rayon::prelude::*;

use super::LoadError;
use super::kernel::{LaneBox, Lanes, PANEL, Panels};
use super::weights::Stored;

/// A weight (k, n).
#[derive(Debug)]
pub(crate) struct Matrix {
    k: usize,
    n: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// All panels, one after the other.
    Decoded(LaneBox),
    /// Decoded when read.
    Stored(Vec<Part<'static>>),
}

/// Columns of a [`Matrix`] that come from one stored tensor.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub tensor: Stored<'a>,
    pub order: Order,
}

/// How the columns of a part lie in the stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Column `j` is row `j`: stored as (outputs, inputs).
    Rows,
    /// Stored as (outputs, inputs), and within heads of this width llama.cpp's
    /// interleaved pairs (0 1)(2 3)... stand where the decoder has halves: pair `i`
    /// is columns `i` and `i + D/2`.
    InterleavedRows(usize),
    /// Column `j` is column `j`: stored as (inputs, outputs).
    Columns,
}

/// Whether weights are kept as f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Decoded to f32 once.
    Decoded,
    /// As stored, decoded at each use.
    Stored,
}

impl Matrix {
    /// Puts `parts` side by side; all have `k` inputs. Every value is decoded once here.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if a value is not finite or cannot be decoded.
    pub(crate) fn new<'a>(k: usize, parts: &[Part<'a>], keep: Keep) -> Result<Self, LoadError> {
        let n = parts.iter().map(Part::n_columns).sum::<usize>();
        if keep == Keep::Decoded {
            // What does not lie row by row is read whole before it is cut up: a read for every row
            // or bit of one would take longer than its bytes.
            let at_hand = |it: &Part<'a>| match it.order {
                Order::Rows => Ok(it.clone()),
                Order::InterleavedRows(_) | Order::Columns => it.to_owned(),
            };
            let parts: Vec<Part<'a>> = parts.iter().map(at_hand).collect::<Result<_, _>>()?;
            let mut panels = LaneBox::zeroed(n.div_ceil(PANEL) * 2 * k)
                .map_err(|source| LoadError::NoRoom { source })?;
            panels
                .as_mut_slice()
                .par_chunks_exact_mut(2 * k)
                .enumerate()
                .try_for_each_init(Vec::new, |values, (index, panel)| {
                    decode(&parts, k, index, panel, values)
                })?;
            return Ok(Self {
                k,
                n,
                form: Form::Decoded(panels),
            });
        }
        // Copied before it is checked: what is checked is what will be read.
        let parts: Vec<Part<'static>> =
            parts.iter().map(Part::to_owned).collect::<Result<_, _>>()?;
        for part in &parts {
            part.tensor.check()?;
        }
        Ok(Self {
            k,
            n,
            form: Form::Stored(parts),
        })
    }
}

impl Matrix {
    /// Columns, and all values row by row, (k, n).
    pub(crate) fn into_rows(self) -> (usize, Vec<f32>) {
        let mut values = vec![0.0; self.k * self.n];
        let mut scratch = Vec::new();
        for index in 0..self.n_panels() {
            let first = index * PANEL;
            let width = PANEL.min(self.n - first);
            let rows = self.panel(index, &mut scratch).chunks_exact(2);
            for (lanes, row) in rows.zip(values.chunks_exact_mut(self.n)) {
                let lanes = lanes.iter().flat_map(|it| it.0);
                row[first..first + width]
                    .iter_mut()
                    .zip(lanes)
                    .for_each(|(value, lane)| *value = lane);
            }
        }
        (self.n, values)
    }
}

impl Panels for Matrix {
    fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    fn panel<'a>(&'a self, index: usize, scratch: &'a mut Vec<Lanes>) -> &'a [Lanes] {
        let length = 2 * self.k;
        match &self.form {
            Form::Decoded(panels) => &panels.as_slice()[index * length..(index + 1) * length],
            Form::Stored(parts) => {
                scratch.clear();
                scratch.resize(length, Lanes::ZERO);
                decode(parts, self.k, index, scratch, &mut Vec::new())
                    .expect("every value was decoded when the matrix was made");
                scratch
            }
        }
    }

    fn is_kept(&self) -> bool {
        matches!(self.form, Form::Decoded(_))
    }
}

impl Part<'_> {
    fn n_columns(&self) -> usize {
        match self.order {
            Order::Rows | Order::InterleavedRows(_) => self.tensor.n_rows,
            Order::Columns => self.tensor.n_columns,
        }
    }

    fn to_owned(&self) -> Result<Part<'static>, LoadError> {
        Ok(Part {
            tensor: self.tensor.to_owned()?,
            order: self.order,
        })
    }

    /// The stored row that becomes column `column`, for parts stored by rows.
    fn row(&self, column: usize) -> usize {
        match self.order {
            Order::Rows | Order::Columns => column,
            Order::InterleavedRows(width) => {
                let (head, i) = (column / width, column % width);
                head * width + 2 * (i % (width / 2)) + i / (width / 2)
            }
        }
    }
}

/// Decodes panel `index` of `parts` side by side into `panel` (k, 32), zeros where it is wider.
fn decode(
    parts: &[Part<'_>],
    k: usize,
    index: usize,
    panel: &mut [Lanes],
    values: &mut Vec<f32>,
) -> Result<(), LoadError> {
    let wanted = index * PANEL..(index + 1) * PANEL;
    let mut first = 0;
    for part in parts {
        let columns = first..first + part.n_columns();
        first = columns.end;
        let from = wanted.start.max(columns.start);
        let to = wanted.end.min(columns.end);
        if from >= to {
            continue;
        }
        let at = from - wanted.start;
        let (from, to) = (from - columns.start, to - columns.start);
        if part.order == Order::Columns {
            for row in 0..k {
                values.clear();
                part.tensor.decode(row, from..to, values)?;
                for (i, value) in values.iter().enumerate() {
                    *element(panel, row, at + i) = *value;
                }
            }
            continue;
        }
        values.clear();
        let mut column = from;
        while column < to {
            // Neighbouring columns are mostly neighbouring rows, decoded in one go.
            let row = part.row(column);
            let n = (column..to)
                .enumerate()
                .take_while(|(i, it)| part.row(*it) == row + i)
                .count();
            part.tensor.decode_rows(row..row + n, values)?;
            column += n;
        }
        for (i, row) in values.chunks_exact(k).enumerate() {
            for (j, value) in row.iter().enumerate() {
                *element(panel, j, at + i) = *value;
            }
        }
    }
    Ok(())
}

/// Column `column` of row `row` of a panel.
#[inline(always)]
pub(crate) fn element(panel: &mut [Lanes], row: usize, column: usize) -> &mut f32 {
    const HALF: usize = PANEL / 2;
    &mut panel[2 * row + column / HALF].0[column % HALF]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(n_rows: usize, n_columns: usize, first: usize) -> Stored<'static> {
        let values = (0..n_rows * n_columns).map(|i| (first + i) as f32);
        Stored::of_f32(&values.collect::<Vec<_>>(), n_rows, n_columns)
    }

    /// Row by row, as many columns as there are.
    fn table(matrix: &Matrix) -> Vec<Vec<f32>> {
        let (k, n) = matrix.shape();
        let mut scratch = Vec::new();
        let mut table = vec![Vec::new(); k];
        for index in 0..matrix.n_panels() {
            let mut panel = matrix.panel(index, &mut scratch).to_vec();
            for (row, values) in table.iter_mut().enumerate() {
                for column in 0..PANEL {
                    let value = *element(&mut panel, row, column);
                    if index * PANEL + column < n {
                        values.push(value);
                    } else {
                        assert_eq!(value, 0.0, "nothing past the last column");
                    }
                }
            }
        }
        table
    }

    #[test]
    fn parts_stand_side_by_side_with_inputs_down() {
        // (2, 3) and (1, 3) become (3, 3): columns 1 2 3 | 4 5 6 | 7 8 9.
        let part = |tensor| Part {
            tensor,
            order: Order::Rows,
        };
        let parts = [part(stored(2, 3, 1)), part(stored(1, 3, 7))];
        let want = [[1.0, 4.0, 7.0], [2.0, 5.0, 8.0], [3.0, 6.0, 9.0]];
        for keep in [Keep::Decoded, Keep::Stored] {
            assert_eq!(
                table(&Matrix::new(3, &parts, keep).unwrap()),
                want,
                "{keep:?}"
            );
        }
    }

    #[test]
    fn interleaved_heads_become_halves() {
        // Two heads of D = 4: rows 0 1 2 3 | 4 5 6 7 become columns 0 2 1 3 | 4 6 5 7.
        let part = Part {
            tensor: stored(8, 1, 0),
            order: Order::InterleavedRows(4),
        };
        let matrix = Matrix::new(1, &[part], Keep::Decoded).unwrap();
        assert_eq!(table(&matrix), [[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]]);
    }

    #[test]
    fn inputs_by_outputs_are_taken_as_they_lie() {
        let part = Part {
            tensor: stored(2, 70, 0),
            order: Order::Columns,
        };
        for keep in [Keep::Decoded, Keep::Stored] {
            let rows = table(&Matrix::new(2, std::slice::from_ref(&part), keep).unwrap());
            let want: Vec<f32> = (70..140).map(|it| it as f32).collect();
            assert_eq!(rows[1], want, "{keep:?}");
        }
    }

    /// Widths that no panel border meets, over several parts.
    #[test]
    fn stored_and_decoded_panels_are_the_same() {
        let parts: Vec<Part<'_>> = [(40, 0), (9, 1000), (50, 5000)]
            .map(|(n, first)| Part {
                tensor: stored(n, 8, first),
                order: Order::Rows,
            })
            .into();
        let decoded = Matrix::new(8, &parts, Keep::Decoded).unwrap();
        let stored = Matrix::new(8, &parts, Keep::Stored).unwrap();
        assert_eq!(decoded.shape(), (8, 99));
        assert_eq!(table(&decoded), table(&stored));
    }
}
