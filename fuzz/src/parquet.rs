//! Parquet: footer or pages change, and the footer's length stays true.

use crate::{Draws, mutated, replace};

/// The footer's length and the mark behind it.
const TAIL: usize = 8;

/// Mutates a Parquet file; one that is none, and one in four, by all its bytes.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut draws = Draws::new(seed);
    let new = match draws.below(4) {
        0 => None,
        _ => changed(&data[..size], &mut draws),
    };
    replace(data, size, max_size, new)
}

fn changed(file: &[u8], draws: &mut Draws) -> Option<Vec<u8>> {
    let (body, tail) = file.split_at_checked(file.len().checked_sub(TAIL)?)?;
    let length = u32::from_le_bytes(*tail.first_chunk()?) as usize;
    let (pages, footer) = body.split_at_checked(body.len().checked_sub(length)?)?;
    let (mut pages, mut footer) = (pages.to_vec(), footer.to_vec());
    if draws.below(2) == 0 {
        footer = mutated(&footer, footer.len() + 16);
    } else {
        // In place, since the footer says where pages begin. Headers are a few bytes: often the
        // change is small, as one to a count or a kind is.
        for _ in 0..1 + draws.below(4) {
            let at = draws.below(pages.len().max(1));
            let change = [1 << draws.below(8), draws.below(256) as u8][draws.below(2)];
            *pages.get_mut(at)? ^= change;
        }
    }
    let length = (footer.len() as u32).to_le_bytes();
    pages.extend(footer);
    pages.extend(length);
    pages.extend(&tail[4..]);
    Some(pages)
}
