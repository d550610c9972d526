//! Tells by their first bytes files that are no model file read here, and what to do with them.
//!
//! A wrong file under a right name is the usual mistake: a Git LFS pointer, a web
//! page instead of a download, a pickle, a format from before GGUF. Nothing is
//! unpacked or run; at most [`N_BYTES`] bytes are looked at.

/// How many bytes of a file [`note`] needs at most.
pub(super) const N_BYTES: usize = 16;

const PICKLE: &str = "a pickle, PyTorch's older format, which can run code and is never opened; \
    convert it to safetensors with transformers' `save_pretrained`";

/// What the file that begins with `start` is, with advice; `None` if nothing is known of it.
///
/// The magic of the formats before GGUF is a 32-bit number, so on disk its letters stand
/// in reverse; both orders are known. Source: llama.cpp's `llama.h` of June 2023.
pub(super) fn note(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [b'l', b'm', b'g', b'g', ..] | [b'g', b'g', b'm', b'l', ..] => {
            "a file of the old format GGML; convert the original model to GGUF"
        }
        [b'f', b'm', b'g', b'g', ..] | [b'g', b'g', b'm', b'f', ..] => {
            "a file of the old format GGMF; convert the original model to GGUF"
        }
        [b't', b'j', b'g', b'g', ..] | [b'g', b'g', b'j', b't', ..] => {
            "a file of the old format GGJT; convert the original model to GGUF"
        }
        [b'a', b'l', b'g', b'g', ..] | [b'g', b'g', b'l', b'a', ..] => {
            "a LoRA adapter of the old format GGLA, which is no model"
        }
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file; name it `.gguf`",
        // Protocols 2 to 5; protocol 0 has no mark.
        [0x80, 2..=5, ..] => PICKLE,
        [b'P', b'K', 3, 4, ..] => {
            "a ZIP archive; PyTorch's checkpoints are such archives of pickles, which can run code \
             and are never opened; convert it to safetensors with transformers' `save_pretrained`"
        }
        [0x1f, 0x8b, ..] => "a gzip archive; unpack it first",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file, as Keras writes; convert it to safetensors",
        _ if start.starts_with(b"version https://") => {
            "a Git LFS pointer instead of the file; run `git lfs pull`"
        }
        _ if starts_like_html(start) => "a web page; the download went wrong",
        // A header length, then the header's opening brace.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => {
            "a safetensors file; give the path of its folder, with `config.json` and `tokenizer.json`"
        }
        _ => return None,
    })
}

fn starts_like_html(start: &[u8]) -> bool {
    [&b"<!doctype"[..], b"<html"].iter().any(|tag| {
        start
            .get(..tag.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(tag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_named() {
        let table: &[(&[u8], &str)] = &[
            // 0x67676d6c, 0x67676d66, 0x67676a74, 0x67676c61 as little-endian numbers.
            (&0x6767_6d6c_u32.to_le_bytes(), "format GGML"),
            (&0x6767_6d66_u32.to_le_bytes(), "format GGMF"),
            (&0x6767_6a74_u32.to_le_bytes(), "format GGJT"),
            (&0x6767_6c61_u32.to_le_bytes(), "format GGLA"),
            (b"GGUF\x03\0\0\0", "name it `.gguf`"),
            // torch.save before 1.6 writes its magic number as a pickle of protocol 2.
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", "can run code"),
            (b"\x80\x04\x95", "can run code"),
            (b"PK\x03\x04\x00\x00", "archives of pickles"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x89HDF\r\n", "HDF5"),
            (b"version https://git-lfs", "git lfs pull"),
            (b"<!DOCTYPE html>", "a web page"),
            (b"<html lang", "a web page"),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", "a safetensors file"),
        ];
        for (start, expected) in table {
            let start = &start[..start.len().min(N_BYTES)];
            let got = note(start).unwrap_or_default();
            assert!(got.contains(expected), "{}: {got}", start.escape_ascii());
        }
        for start in [&b""[..], b"G", b"abcdefgh", b"\x80\x09"] {
            assert_eq!(note(start), None);
        }
    }
}
