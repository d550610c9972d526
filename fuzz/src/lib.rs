//! Changes to inputs that keep what a parser checks first, so that the rest of it is reached too.
//!
//! Changed byte by byte, a file with a length in front or a digest behind is refused there, and
//! JSON at its first comma. Here the parts change and the lengths follow. Every mutator leaves a
//! part of its turns to the bytes, so that what is checked first is tested as well.

pub mod json;
pub mod parquet;
pub mod safetensors;

use libfuzzer_sys::fuzzer_mutate;

/// What libFuzzer makes of `part`, at most `room` bytes.
///
/// It draws on dictionaries and on what was compared in earlier runs.
fn mutated(part: &[u8], room: usize) -> Vec<u8> {
    let mut buffer = part.to_vec();
    buffer.resize(room.max(part.len()), 0);
    let length = fuzzer_mutate(&mut buffer, part.len(), room);
    buffer.truncate(length);
    buffer
}

/// Puts `new` in place of the input, or mutates its bytes if there is nothing or too much to put.
fn replace(data: &mut [u8], size: usize, max_size: usize, new: Option<Vec<u8>>) -> usize {
    match new {
        Some(new) if !new.is_empty() && new.len() <= max_size => {
            data[..new.len()].copy_from_slice(&new);
            new.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
}

/// Numbers that follow from the seed of one mutation (splitmix64).
struct Draws(u64);

impl Draws {
    fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((it ^ (it >> 31)) % n as u64) as usize
    }
}
