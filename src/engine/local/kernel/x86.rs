//! The loop in AVX-512 and in AVX2.

use std::arch::x86_64::{
    _MM_HINT_T1, _mm_prefetch, _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{Mode, PANEL, TILE_ROWS, Tile};

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
    let zeros = [0.0f32; PANEL];
    // SAFETY: the caller vouches for M rows, of the output with `width` floats each.
    unsafe {
        if tile.width == PANEL && tile.bias.is_null() {
            // All there is to do happens in registers.
            let (zeros, out) = ((zeros.as_ptr(), 0), (tile.out, tile.out_stride));
            match tile.mode {
                Mode::Set => avx512_chains::<M, 2, false>(tile, zeros, out),
                Mode::Continue => avx512_chains::<M, 2, false>(tile, (out.0, out.1), out),
                Mode::Add => avx512_chains::<M, 2, true>(tile, zeros, out),
            }
            return;
        }
        let mut done = tile.starts::<M>();
        let place = (done.as_mut_ptr().cast::<f32>(), PANEL);
        if tile.width <= PANEL / 2 {
            // The other half of the panel is not even read.
            avx512_chains::<M, 1, false>(tile, (place.0, place.1), place);
        } else {
            avx512_chains::<M, 2, false>(tile, (place.0, place.1), place);
        }
        tile.finish_all(&done);
    }
}

/// Begins M rows of 16N chains with what `start` points to, rows so far apart, and stores
/// them at `end`, or adds them to what is there.
///
/// # Safety
///
/// As for [`super::run`], and both pointers are valid for M rows of 16N floats.
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "loads and stores through pointers")]
unsafe fn avx512_chains<const M: usize, const N: usize, const ADD: bool>(
    tile: Tile,
    (start, start_stride): (*const f32, usize),
    (end, end_stride): (*mut f32, usize),
) {
    // SAFETY: the caller vouches for M rows; the panel is aligned by its type; fetching
    // ahead reads nothing.
    unsafe {
        let x: [*const f32; M] =
            std::array::from_fn(|row| tile.x.wrapping_add(row * tile.x_stride));
        let panel = tile.panel.cast::<f32>();
        let mut chains = [[_mm512_setzero_ps(); N]; M];
        for (row, chains) in chains.iter_mut().enumerate() {
            let start = start.wrapping_add(row * start_stride);
            for (half, chain) in chains.iter_mut().enumerate() {
                *chain = _mm512_loadu_ps(start.add(16 * half));
            }
        }
        let mut ahead = tile.ahead;
        let mut k = 0;
        while k < tile.k {
            let end = tile.k.min(k.saturating_add(tile.steps_per_line));
            while k < end {
                let mut lanes = [_mm512_setzero_ps(); N];
                for (half, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = _mm512_load_ps(panel.add(k * PANEL + 16 * half));
                }
                for (chains, x) in chains.iter_mut().zip(&x) {
                    let x = _mm512_set1_ps(*x.add(k));
                    for (chain, lanes) in chains.iter_mut().zip(&lanes) {
                        *chain = _mm512_fmadd_ps(x, *lanes, *chain);
                    }
                }
                k += 1;
            }
            if !tile.ahead.is_null() {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                ahead = ahead.wrapping_add(1);
            }
        }
        for (row, chains) in chains.iter().enumerate() {
            let end = end.wrapping_add(row * end_stride);
            for (half, chain) in chains.iter().enumerate() {
                let end = end.add(16 * half);
                let mut chain = *chain;
                if ADD {
                    chain = _mm512_add_ps(_mm512_loadu_ps(end), chain);
                }
                _mm512_storeu_ps(end, chain);
            }
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
