//! Safetensors: the header changes as JSON, its length and the data follow.

use serde_json::Value;

use crate::{Draws, json, replace};

/// Mutates the header of a safetensors file; of what is none, and one in four, the bytes.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut draws = Draws::new(seed);
    let new = match draws.below(4) {
        0 => None,
        _ => changed(&data[..size], max_size, &mut draws),
    };
    replace(data, size, max_size, new)
}

fn changed(file: &[u8], max_size: usize, draws: &mut Draws) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk()?;
    let (header, data) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header = json::changed(serde_json::from_slice(header).ok()?, draws);
    let text = header.to_string().into_bytes();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text);
    match usize::try_from(end_of_data(&header)) {
        Ok(end) if end <= max_size && draws.below(4) != 0 => file.resize(file.len() + end, 0),
        _ => file.extend(data),
    }
    Some(file)
}

/// Where the tensors say that their data ends.
fn end_of_data(header: &Value) -> u64 {
    let tensors = header.as_object().into_iter().flat_map(|it| it.values());
    let ends = tensors.filter_map(|it| it.get("data_offsets")?.get(1)?.as_u64());
    ends.max().unwrap_or_default()
}
