//! Memory for panels: aligned to cache lines, and on large pages where the system has them.
//!
//! A wave reads all weights once. On pages of 4 KiB that is a hundred thousand page
//! walks and, while loading, as many page faults; large pages save most of both.

use super::PANEL;

/// Half a row of a panel, aligned to a cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub [f32; PANEL / 2]);

impl Lanes {
    /// All lanes 0.
    pub(crate) const ZERO: Self = Self([0.0; PANEL / 2]);
}

/// Zeroed lanes that stay as long as the program needs weights.
#[derive(Debug)]
pub(crate) struct LaneBox {
    /// `None` if there are no lanes: nothing cannot be mapped.
    map: Option<memmap2::MmapMut>,
    n: usize,
}

impl LaneBox {
    /// `n` lanes of zeros; pages are taken as they are written.
    ///
    /// # Errors
    ///
    /// What the system says if there is no address space for them.
    pub(crate) fn zeroed(n: usize) -> std::io::Result<Self> {
        if n == 0 {
            return Ok(Self { map: None, n });
        }
        let map = memmap2::MmapMut::map_anon(n * size_of::<Lanes>())?;
        // Only advice: a system without large pages goes on with small ones.
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::HugePage).unwrap_or_default();
        Ok(Self { map: Some(map), n })
    }

    /// The lanes.
    #[expect(
        unsafe_code,
        reason = "any bytes are lanes; the mapping is a page or more"
    )]
    pub(crate) fn as_slice(&self) -> &[Lanes] {
        let Some(map) = &self.map else { return &[] };
        // SAFETY: the mapping has `n` times the size of `Lanes`, begins at a page and so at a
        // multiple of 64, and every pattern of bits is a float.
        unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), self.n) }
    }

    /// The lanes, to be written.
    #[expect(
        unsafe_code,
        reason = "any bytes are lanes; the mapping is a page or more"
    )]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [Lanes] {
        let Some(map) = &mut self.map else {
            return &mut [];
        };
        // SAFETY: as in `as_slice`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), self.n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_begin_as_zeros_and_keep_what_is_written() {
        for n in [0, 1, 1000] {
            let mut lanes = LaneBox::zeroed(n).unwrap();
            assert_eq!(lanes.as_slice(), vec![Lanes::ZERO; n]);
            lanes.as_mut_slice().fill(Lanes([2.5; PANEL / 2]));
            assert_eq!(lanes.as_slice(), vec![Lanes([2.5; PANEL / 2]); n]);
        }
    }
}
