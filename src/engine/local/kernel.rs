//! The one multiply-add loop: rows times panels of 32 columns.
//!
//! Every output element is one chain of fused multiply-adds in ascending `k`, from 0
//! or from what the output holds. Vector lanes run over columns, never along the sum,
//! so an element has the same bits whatever the number of rows beside it and however
//! wide the machine's vectors are. IEEE 754 defines a fused multiply-add to the bit:
//! AVX-512, AVX2 and the portable loop agree, which the tests hold.
//!
//! One of the two places in the crate with `unsafe`: raw pointers let tasks write
//! different columns of the same rows, and the vector loops load through them. All
//! lengths are checked before a pointer is made.

mod lanes;
mod product;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use lanes::{LaneBox, Lanes};
pub(crate) use product::{Affine, Spread, gated_product, product};

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// Rows that one pass over a panel serves at most: 24 accumulators of 16 lanes.
const TILE_ROWS: usize = 12;

/// Rows of a matrix that lie `stride` floats apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub n: usize,
}

/// What happens to a finished chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It replaces what the output holds.
    Set,
    /// It began with what the output holds, and replaces it.
    Continue,
    /// It is added to what the output holds, in one addition.
    Add,
}

/// A matrix (k, n) that is read panel by panel.
pub(crate) trait Panels: Sync {
    /// Rows and columns, (k, n).
    fn shape(&self) -> (usize, usize);

    /// Columns `32·index ..`, shape (k, 32) and 0 past the last column.
    ///
    /// `scratch` is room for panels that are not kept in this form.
    fn panel<'a>(&'a self, index: usize, scratch: &'a mut Vec<Lanes>) -> &'a [Lanes];

    /// Whether panels are kept, so that the next one may be fetched ahead.
    fn is_kept(&self) -> bool;

    /// Number of panels.
    fn n_panels(&self) -> usize {
        self.shape().1.div_ceil(PANEL)
    }
}

/// The loops there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The fastest loop of this machine.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

/// Up to [`TILE_ROWS`] rows times one panel. All pointers but `ahead` are valid for what is asked.
#[derive(Clone, Copy)]
struct Tile {
    x: *const f32,
    x_stride: usize,
    /// (k, 32), aligned to 64 bytes.
    panel: *const Lanes,
    k: usize,
    out: *mut f32,
    out_stride: usize,
    /// Columns that exist, at most 32.
    width: usize,
    /// Of `width` floats, added to a chain when it is done; or null.
    bias: *const f32,
    mode: Mode,
    /// What will be read next; may be null, is never read here.
    ahead: *const Lanes,
    /// One line of it is fetched after so many steps of `k`.
    steps_per_line: usize,
}

/// `out (mode)= x · panel` on one thread: `x` (n, k), `out` (n, `width`) with its own stride.
///
/// # Panics
///
/// If a length contradicts the shapes: a bug.
#[expect(unsafe_code, reason = "hands checked slices to the vector loops")]
pub(crate) fn multiply(
    x: Rows<'_>,
    panel: &[Lanes],
    out: &mut [f32],
    out_stride: usize,
    width: usize,
    mode: Mode,
) {
    let k = panel.len() / 2;
    if x.n == 0 || width == 0 {
        return;
    }
    assert!(width <= PANEL && width <= out_stride && k <= x.stride);
    assert!((x.n - 1) * x.stride + k <= x.values.len());
    assert!((x.n - 1) * out_stride + width <= out.len());
    let tile = Tile {
        x: x.values.as_ptr(),
        x_stride: x.stride,
        panel: panel.as_ptr(),
        k,
        out: out.as_mut_ptr(),
        out_stride,
        width,
        bias: std::ptr::null(),
        mode,
        ahead: std::ptr::null(),
        steps_per_line: usize::MAX,
    };
    // SAFETY: the assertions above are what `run` asks for; `out` is borrowed mutably.
    unsafe { run(Isa::best(), tile, x.n) }
}

/// Multiplies `n_rows` rows, tile by tile.
///
/// # Safety
///
/// With `tile.x`, `tile.out`, `tile.panel`, `tile.bias` as of `n_rows` rows, every access
/// by the tile's strides, widths and `k` must be in bounds, nobody else may use these
/// elements of the output meanwhile, and the machine must have the instructions of `isa`.
#[expect(unsafe_code, reason = "walks over rows by their stride")]
unsafe fn run(isa: Isa, mut tile: Tile, n_rows: usize) {
    let mut n_left = n_rows;
    while 0 < n_left {
        // Tiles of nearly equal height: a low one would wait for the panel.
        let n = n_left.div_ceil(n_left.div_ceil(TILE_ROWS));
        // SAFETY: rows `first .. first + n` are inside what the caller vouches for.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => x86::avx512(tile, n),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => x86::avx2(tile, n),
                Isa::Portable => portable(tile, n),
            }
        }
        tile.next_rows(n);
        n_left -= n;
    }
}

/// The loop without vector instructions of a certain kind.
///
/// # Safety
///
/// As for [`run`].
#[expect(unsafe_code, reason = "the same pointers as the vector loops")]
unsafe fn portable(tile: Tile, n_rows: usize) {
    for row in 0..n_rows {
        // SAFETY: the caller vouches for `n_rows` rows of `k` floats, for `k` rows of the
        // panel, and for `width` floats of the output.
        unsafe {
            let x = std::slice::from_raw_parts(tile.x.add(row * tile.x_stride), tile.k);
            let panel = std::slice::from_raw_parts(tile.panel, 2 * tile.k);
            let mut chains = tile.begin(row);
            let (low, high) = chains.split_at_mut(PANEL / 2);
            for (x, lanes) in x.iter().zip(panel.chunks_exact(2)) {
                for (chain, y) in low.iter_mut().zip(&lanes[0].0) {
                    *chain = x.mul_add(*y, *chain);
                }
                for (chain, y) in high.iter_mut().zip(&lanes[1].0) {
                    *chain = x.mul_add(*y, *chain);
                }
            }
            tile.finish(row, &chains);
        }
    }
}

impl Tile {
    /// Goes past `n` rows.
    fn next_rows(&mut self, n: usize) {
        self.x = self.x.wrapping_add(n * self.x_stride);
        self.out = self.out.wrapping_add(n * self.out_stride);
        if !self.ahead.is_null() {
            self.ahead = self.ahead.wrapping_add(self.k / self.steps_per_line);
        }
    }

    /// What the chains of a row start from.
    ///
    /// # Safety
    ///
    /// `row` is a row of the output.
    #[inline(always)]
    #[expect(unsafe_code, reason = "reads the output through its pointer")]
    unsafe fn begin(&self, row: usize) -> [f32; PANEL] {
        let mut chains = [0.0; PANEL];
        if self.mode == Mode::Continue {
            // SAFETY: the row has `width` floats.
            let out = unsafe {
                std::slice::from_raw_parts(self.out.add(row * self.out_stride), self.width)
            };
            chains[..self.width].copy_from_slice(out);
        }
        chains
    }

    /// Stores the finished chains of a row.
    ///
    /// # Safety
    ///
    /// `row` is a row of the output, and nobody else uses these columns of it.
    #[inline(always)]
    #[expect(unsafe_code, reason = "writes the output through its pointer")]
    unsafe fn finish(&self, row: usize, chains: &[f32; PANEL]) {
        let mut chains = *chains;
        // SAFETY: the row has `width` floats, the bias too if there is one.
        let (out, bias) = unsafe {
            let out =
                std::slice::from_raw_parts_mut(self.out.add(row * self.out_stride), self.width);
            let bias =
                (!self.bias.is_null()).then(|| std::slice::from_raw_parts(self.bias, self.width));
            (out, bias)
        };
        if let Some(bias) = bias {
            chains.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        if self.mode == Mode::Add {
            out.iter_mut().zip(&chains).for_each(|(out, y)| *out += y);
        } else if let Some(out) = out.as_mut_array::<PANEL>() {
            *out = chains;
        } else {
            out.copy_from_slice(&chains[..self.width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::product::product_on;
    use super::*;

    /// A weight whose panels lie one after the other.
    struct Plain {
        k: usize,
        n: usize,
        panels: Vec<Lanes>,
    }

    impl Plain {
        fn new(k: usize, n: usize) -> Self {
            let mut panels = vec![Lanes::ZERO; n.div_ceil(PANEL) * 2 * k];
            for row in 0..k {
                for column in 0..n {
                    let half = 2 * (column / PANEL * k + row) + column % PANEL / 16;
                    panels[half].0[column % 16] = value(row * 131 + column * 17);
                }
            }
            Self { k, n, panels }
        }
    }

    impl Panels for Plain {
        fn shape(&self) -> (usize, usize) {
            (self.k, self.n)
        }

        fn panel<'a>(&'a self, index: usize, _: &'a mut Vec<Lanes>) -> &'a [Lanes] {
            &self.panels[index * 2 * self.k..(index + 1) * 2 * self.k]
        }

        fn is_kept(&self) -> bool {
            true
        }
    }

    fn value(seed: usize) -> f32 {
        ((seed * 7919 + 13) % 1009) as f32 / 300.0 - 1.6
    }

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| value(i * 3 + seed)).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|it| it.to_bits()).collect()
    }

    fn isas() -> Vec<Isa> {
        let portable = [Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        let vectors = {
            let has_avx2 = std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma");
            let has_avx512 = std::arch::is_x86_feature_detected!("avx512f");
            let avx2 = has_avx2.then_some(Isa::Avx2);
            avx2.into_iter().chain(has_avx512.then_some(Isa::Avx512))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = std::iter::empty();
        portable.into_iter().chain(vectors).collect()
    }

    /// The promise of the header, written as it reads.
    fn expected(x: &[f32], weight: &Plain, bias: Option<&[f32]>, out: &mut [f32], mode: Mode) {
        let (k, n) = weight.shape();
        for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
            for (column, out) in out.iter_mut().enumerate() {
                let start = if mode == Mode::Continue { *out } else { 0.0 };
                let chain = x.iter().enumerate().fold(start, |chain, (row, x)| {
                    x.mul_add(value(row * 131 + column * 17), chain)
                });
                let done = bias.map_or(chain, |it| chain + it[column]);
                *out = if mode == Mode::Add { *out + done } else { done };
            }
        }
    }

    #[test]
    fn every_loop_is_one_chain_per_element() {
        for (k, n) in [(1, 1), (7, 31), (64, 32), (33, 70), (130, 96)] {
            let weight = Plain::new(k, n);
            let bias = values(n, 5);
            for n_rows in (1..=14).chain([25, 61]) {
                let x = values(n_rows * k, 1);
                for mode in [Mode::Set, Mode::Continue, Mode::Add] {
                    for bias in [None, Some(bias.as_slice())] {
                        let mut want = values(n_rows * n, 9);
                        expected(&x, &weight, bias, &mut want, mode);
                        let affine = Affine {
                            weight: &weight,
                            bias,
                        };
                        for isa in isas() {
                            for spread in [Spread::Threads, Spread::Here] {
                                let mut got = values(n_rows * n, 9);
                                product_on(isa, spread, &x, &affine, &mut got, mode);
                                assert_eq!(
                                    bits(&got),
                                    bits(&want),
                                    "{isa:?} {spread:?} {n_rows} x {k} x {n} {mode:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_cut_in_two_is_the_same_chain() {
        let (k, n_rows) = (50, 5);
        let weight = Plain::new(k, PANEL);
        let x = values(n_rows * k, 3);
        let rows = |from: usize| Rows {
            values: &x[from..],
            stride: k,
            n: n_rows,
        };
        let mut whole = vec![0.0; n_rows * 40];
        multiply(rows(0), &weight.panels, &mut whole, 40, PANEL, Mode::Set);
        for cut in [1, 17, 49] {
            let mut parts = vec![0.0; n_rows * 40];
            let (first, second) = weight.panels.split_at(2 * cut);
            multiply(rows(0), first, &mut parts, 40, PANEL, Mode::Set);
            multiply(rows(cut), second, &mut parts, 40, PANEL, Mode::Continue);
            assert_eq!(bits(&parts), bits(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn columns_beside_the_panel_are_left_alone() {
        let weight = Plain::new(4, 3);
        let x = values(8, 0);
        for isa in isas() {
            let mut out = vec![7.0; 6];
            let affine = Affine {
                weight: &weight,
                bias: None,
            };
            product_on(isa, Spread::Here, &x, &affine, &mut out, Mode::Set);
            assert!(out.iter().all(|it| *it != 7.0), "{isa:?}");
        }
        let rows = Rows {
            values: &x,
            stride: 4,
            n: 2,
        };
        let mut out = vec![7.0; 10];
        multiply(rows, &weight.panels, &mut out, 5, 3, Mode::Set);
        assert_eq!((&out[3..5], &out[8..]), (&[7.0, 7.0][..], &[7.0, 7.0][..]));
    }
}
