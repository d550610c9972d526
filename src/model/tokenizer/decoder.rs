//! Turns generated ids into text as they arrive.

use super::Tokenizer;

/// Joins the bytes of tokens and hands out text as soon as characters are whole.
///
/// The pieces joined, [`StreamDecoder::finish`] included, equal
/// [`Tokenizer::decode`] of all ids: bytes that can no longer become a character
/// turn into U+FFFD, bytes that still can are held back.
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    held: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token and returns the text that is now certain; special tokens add none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if !tokenizer.is_special(id) {
            self.held.extend(tokenizer.token_bytes(id));
        }
        self.drain()
    }

    /// The text of the bytes still held back, which no character will complete.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }

    fn drain(&mut self) -> String {
        let mut piece = String::new();
        let mut n_done = 0;
        for chunk in self.held.utf8_chunks() {
            piece.push_str(chunk.valid());
            n_done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = n_done + invalid.len() == self.held.len();
            // An unfinished character at the very end may still be completed.
            if invalid.is_empty() || (is_last && may_continue(invalid)) {
                break;
            }
            piece.push(char::REPLACEMENT_CHARACTER);
            n_done += invalid.len();
        }
        self.held.drain(..n_done);
        piece
    }
}

/// Whether `bytes`, which are no character, are the beginning of one.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|err| err.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_decoded_text_for_any_bytes() {
        let tokenizer = Tokenizer::bytes();
        let texts: [&[u8]; 7] = [
            "aç世🌍b".as_bytes(),
            b"\xE4\xB8",
            b"\xE4\xB8a",
            b"\xFF\xC3\xA7\xC3",
            b"\xF0\x9F\x8Cx\xF0",
            b"\xC0\x80\xED\xA0\x80",
            b"",
        ];
        for bytes in texts {
            let ids: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
            let mut decoder = StreamDecoder::new();
            let mut joined: String = ids.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
            joined.push_str(&decoder.finish());
            assert_eq!(joined, tokenizer.decode(&ids, true), "{bytes:?}");
        }
    }

    #[test]
    fn a_character_appears_with_its_last_byte() {
        let tokenizer = Tokenizer::bytes();
        let mut decoder = StreamDecoder::new();
        let pieces: Vec<String> = "é🌍"
            .bytes()
            .map(|byte| decoder.push(&tokenizer, u32::from(byte)))
            .collect();
        assert_eq!(pieces, ["", "é", "", "", "", "🌍"]);
    }
}
