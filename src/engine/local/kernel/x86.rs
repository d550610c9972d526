//! The loop in AVX-512 and in AVX2.

use std::arch::x86_64::{
    _MM_HINT_T1, _mm_prefetch, _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_loadu_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{PANEL, TILE_ROWS, Tile};

/// `n_rows` rows with 16 lanes per vector.
///
/// # Safety
///
/// As for [`super::run`]; the machine has AVX-512F.
#[expect(unsafe_code, reason = "calls the loop for this number of rows")]
pub(super) unsafe fn avx512(tile: Tile, n_rows: usize) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        match n_rows {
            1 => avx512_rows::<1>(tile),
            2 => avx512_rows::<2>(tile),
            3 => avx512_rows::<3>(tile),
            4 => avx512_rows::<4>(tile),
            5 => avx512_rows::<5>(tile),
            6 => avx512_rows::<6>(tile),
            7 => avx512_rows::<7>(tile),
            8 => avx512_rows::<8>(tile),
            9 => avx512_rows::<9>(tile),
            10 => avx512_rows::<10>(tile),
            11 => avx512_rows::<11>(tile),
            TILE_ROWS => avx512_rows::<TILE_ROWS>(tile),
            _ => unreachable!("a tile has 1 to {TILE_ROWS} rows"),
        }
    }
}

#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "passes the caller's promise on")]
unsafe fn avx512_rows<const M: usize>(tile: Tile) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut done = tile.starts::<M>();
        avx512_chains::<M>(tile, &mut done);
        tile.finish_all(&done);
    }
}

/// Continues the chains of M rows.
///
/// Apart from what is before and after, so that the chains stay in registers.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "loads and stores through pointers")]
unsafe fn avx512_chains<const M: usize>(tile: Tile, done: &mut [[f32; PANEL]; M]) {
    // SAFETY: the caller vouches for M rows; the panel is aligned by its type; fetching
    // ahead reads nothing.
    unsafe {
        let mut x = [std::ptr::null(); M];
        let mut chains = [[_mm512_setzero_ps(); 2]; M];
        for row in 0..M {
            x[row] = tile.x.wrapping_add(row * tile.x_stride);
            chains[row][0] = _mm512_loadu_ps(done[row].as_ptr());
            chains[row][1] = _mm512_loadu_ps(done[row].as_ptr().add(16));
        }
        let panel = tile.panel.cast::<f32>();
        let mut ahead = tile.ahead;
        let mut k = 0;
        while k < tile.k {
            let end = tile.k.min(k.saturating_add(tile.steps_per_line));
            while k < end {
                let low = _mm512_load_ps(panel.add(k * PANEL));
                let high = _mm512_load_ps(panel.add(k * PANEL + 16));
                for row in 0..M {
                    let x = _mm512_set1_ps(*x[row].add(k));
                    chains[row][0] = _mm512_fmadd_ps(x, low, chains[row][0]);
                    chains[row][1] = _mm512_fmadd_ps(x, high, chains[row][1]);
                }
                k += 1;
            }
            if !tile.ahead.is_null() {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                ahead = ahead.wrapping_add(1);
            }
        }
        for row in 0..M {
            _mm512_storeu_ps(done[row].as_mut_ptr(), chains[row][0]);
            _mm512_storeu_ps(done[row].as_mut_ptr().add(16), chains[row][1]);
        }
    }
}

/// `n_rows` rows with 8 lanes per vector.
///
/// # Safety
///
/// As for [`super::run`]; the machine has AVX2 and FMA.
#[expect(unsafe_code, reason = "calls the loop for this number of rows")]
pub(super) unsafe fn avx2(mut tile: Tile, n_rows: usize) {
    let mut left = n_rows;
    while left > 0 {
        let n = left.min(6);
        // SAFETY: the caller vouches for all of it, row by row.
        unsafe {
            match n {
                1 => avx2_narrow::<1>(tile),
                2 => avx2_narrow::<2>(tile),
                3 => avx2_narrow::<3>(tile),
                4 => avx2_wide::<4>(tile),
                5 => avx2_wide::<5>(tile),
                _ => avx2_wide::<6>(tile),
            }
        }
        tile.x = tile.x.wrapping_add(n * tile.x_stride);
        tile.out = tile.out.wrapping_add(n * tile.out_stride);
        left -= n;
    }
}

/// Few rows: all 32 columns at once, 4M accumulators.
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "passes the caller's promise on")]
unsafe fn avx2_narrow<const M: usize>(tile: Tile) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut done = tile.starts::<M>();
        avx2_columns::<M, 4>(tile, 0, &mut done);
        tile.finish_all(&done);
    }
}

/// Four to six rows: half of the columns, then the other half, 2M accumulators.
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "passes the caller's promise on")]
unsafe fn avx2_wide<const M: usize>(tile: Tile) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut done = tile.starts::<M>();
        avx2_columns::<M, 2>(tile, 0, &mut done);
        avx2_columns::<M, 2>(tile, 16, &mut done);
        tile.finish_all(&done);
    }
}

/// Continues the chains of columns `from .. from + 8N`.
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "loads and stores through pointers")]
unsafe fn avx2_columns<const M: usize, const N: usize>(
    tile: Tile,
    from: usize,
    done: &mut [[f32; PANEL]; M],
) {
    // SAFETY: the caller vouches for M rows; `from + 8N <= 32`; the panel is aligned by
    // its type.
    unsafe {
        let x: [*const f32; M] =
            std::array::from_fn(|row| tile.x.wrapping_add(row * tile.x_stride));
        let panel = tile.panel.cast::<f32>().add(from);
        let mut chains = [[_mm256_setzero_ps(); N]; M];
        for (chain, done) in chains.iter_mut().zip(&*done) {
            for (i, chain) in chain.iter_mut().enumerate() {
                *chain = _mm256_loadu_ps(done.as_ptr().add(from + 8 * i));
            }
        }
        for k in 0..tile.k {
            let mut lanes = [_mm256_setzero_ps(); N];
            for (i, lanes) in lanes.iter_mut().enumerate() {
                *lanes = _mm256_load_ps(panel.add(k * PANEL + 8 * i));
            }
            for (chain, x) in chains.iter_mut().zip(&x) {
                let x = _mm256_set1_ps(*x.add(k));
                for (chain, lanes) in chain.iter_mut().zip(&lanes) {
                    *chain = _mm256_fmadd_ps(x, *lanes, *chain);
                }
            }
        }
        for (chain, done) in chains.iter().zip(done) {
            for (i, chain) in chain.iter().enumerate() {
                _mm256_storeu_ps(done.as_mut_ptr().add(from + 8 * i), *chain);
            }
        }
    }
}

impl Tile {
    /// What the chains of M rows start from.
    ///
    /// # Safety
    ///
    /// The output has M rows.
    #[inline(always)]
    #[expect(unsafe_code, reason = "passes the caller's promise on")]
    unsafe fn starts<const M: usize>(&self) -> [[f32; PANEL]; M] {
        // SAFETY: as the caller vouches.
        std::array::from_fn(|row| unsafe { self.begin(row) })
    }

    /// Stores the finished chains of M rows.
    ///
    /// # Safety
    ///
    /// The output has M rows, and nobody else uses these columns of them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "passes the caller's promise on")]
    unsafe fn finish_all<const M: usize>(&self, done: &[[f32; PANEL]; M]) {
        for (row, done) in done.iter().enumerate() {
            // SAFETY: as the caller vouches.
            unsafe { self.finish(row, done) }
        }
    }
}
