//! A response as bytes, and back.

use crate::request::{FinishReason, Response};

// A value is a kind byte, then little-endian fields; every list has a u32 length
// before it. f32 values keep their bits, -inf included, which JSON could not hold.

pub(super) fn encode(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    let length = |out: &mut Vec<u8>, n: usize| out.extend((n as u32).to_le_bytes());
    match response {
        Response::Loglikelihood {
            logprobs,
            is_argmax,
        } => {
            out.push(b'l');
            length(&mut out, logprobs.len());
            out.extend(logprobs.iter().flat_map(|it| it.to_le_bytes()));
            out.extend(is_argmax.iter().map(|it| u8::from(*it)));
        }
        Response::Generation {
            tokens,
            text,
            finish_reason,
        } => {
            out.push(b'g');
            length(&mut out, tokens.len());
            out.extend(tokens.iter().flat_map(|it| it.to_le_bytes()));
            length(&mut out, finish_reason.as_str().len());
            out.extend(finish_reason.as_str().as_bytes());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// `None` if the bytes are not a whole response.
pub(super) fn decode(bytes: &[u8]) -> Option<Response> {
    let (kind, rest) = bytes.split_first()?;
    let (n, rest) = split_length(rest)?;
    match kind {
        b'l' => {
            let (logprobs, flags) = rest.split_at_checked(4 * n)?;
            let logprobs = words(logprobs).map(f32::from_le_bytes).collect();
            let is_argmax: Vec<bool> = flags.iter().map(|it| *it == 1).collect();
            (is_argmax.len() == n).then_some(Response::Loglikelihood {
                logprobs,
                is_argmax,
            })
        }
        b'g' => {
            let (tokens, rest) = rest.split_at_checked(4 * n)?;
            let (n_reason, rest) = split_length(rest)?;
            let (reason, text) = rest.split_at_checked(n_reason)?;
            Some(Response::Generation {
                tokens: words(tokens).map(u32::from_le_bytes).collect(),
                text: String::from_utf8(text.to_vec()).ok()?,
                finish_reason: FinishReason::from_name(std::str::from_utf8(reason).ok()?)?,
            })
        }
        _ => None,
    }
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length) as usize, rest))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes
        .chunks_exact(4)
        .map(|it| it.try_into().expect("chunks of four bytes"))
}
