//! Notices a stop text in what is being written, token by token.
//!
//! Promise: after every token the answer is the same as that of searching the whole
//! text so far, decoded at once, but the work is that of the new bytes alone. Bytes
//! that are no character yet count as U+FFFD until they are one, as in
//! [`Tokenizer::decode`].

use crate::model::tokenizer::{StreamDecoder, Tokenizer};

/// Watches one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopWatch {
    decoder: StreamDecoder,
    /// The end of the text so far: as much as may belong to a stop text that goes on.
    tail: String,
}

impl StopWatch {
    /// Takes the next token and says whether the text now contains one of `stops`.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: u32, stops: &[String]) -> bool {
        let Some(longest) = stops.iter().map(String::len).max() else {
            return false;
        };
        self.tail += &self.decoder.push(tokenizer, token);
        let n_certain = self.tail.len();
        self.tail += &self.decoder.clone().finish();
        let is_found = stops.iter().any(|it| self.tail.contains(it.as_str()));
        self.tail.truncate(n_certain);
        // Whatever is found next ends in new text, so it begins less than its own
        // length before it.
        let mut n_over = n_certain.saturating_sub(longest.saturating_sub(1));
        while !self.tail.is_char_boundary(n_over) {
            n_over -= 1;
        }
        self.tail.drain(..n_over);
        is_found
    }
}

/// Where the earliest stop text begins.
pub(crate) fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|it| text.find(it.as_str())).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: decode everything, search everything, after every token.
    fn at_once(tokenizer: &Tokenizer, tokens: &[u32], stops: &[String]) -> Vec<bool> {
        (1..=tokens.len())
            .map(|n| first_stop(&tokenizer.decode(&tokens[..n], true), stops).is_some())
            .collect()
    }

    /// Up to the first hit, where writing ends.
    fn by_watch(tokenizer: &Tokenizer, tokens: &[u32], stops: &[String]) -> Vec<bool> {
        let mut watch = StopWatch::default();
        let mut found = Vec::new();
        for token in tokens {
            found.push(watch.push(tokenizer, *token, stops));
            if found.last() == Some(&true) {
                break;
            }
        }
        found
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_stop_text_may_straddle_tokens_and_characters() {
        let tokenizer = Tokenizer::bytes();
        let tokens: Vec<u32> = "ab世界\n\nQ".bytes().map(u32::from).collect();
        for (stops, n) in [
            (strings(&["b世"]), 5),
            (strings(&["\n\n"]), 10),
            (strings(&["zzz", "界"]), 8),
            // The first byte of 世 alone is U+FFFD until the others come.
            (strings(&["b\u{FFFD}"]), 3),
            (strings(&[""]), 1),
            (strings(&["nowhere"]), 11),
            (strings(&[]), 11),
        ] {
            let found = by_watch(&tokenizer, &tokens, &stops);
            assert_eq!(found.len(), n, "{stops:?}");
            assert_eq!(found, at_once(&tokenizer, &tokens, &stops)[..n]);
        }
    }

    /// A long text costs no more per token than a short one.
    #[test]
    fn no_more_text_is_kept_than_a_stop_text_needs() {
        let tokenizer = Tokenizer::bytes();
        let stops = strings(&["\n\n\n", "世界"]);
        let mut watch = StopWatch::default();
        for _ in 0..1000 {
            for byte in "x世\n\n".bytes() {
                assert!(!watch.push(&tokenizer, u32::from(byte), &stops));
                assert!(watch.tail.len() <= 8, "{:?}", watch.tail);
            }
        }
    }

    proptest! {
        /// Bytes are tokens here, so every character is cut, and so is every stop text.
        #[test]
        fn watching_equals_searching_the_whole_text(
            tokens in prop::collection::vec(
                prop::sample::select(vec![
                    97u32, 98, 10, 32, 0xC3, 0xA9, 0xE4, 0xB8, 0x96, 0xF0, 0x9F, 0x8C, 0x8D, 0xFF,
                    256, 257,
                ]),
                1..40,
            ),
            stops in prop::collection::vec("[abé世🌍\n \u{FFFD}]{0,4}", 0..3),
        ) {
            let tokenizer = Tokenizer::bytes();
            let found = by_watch(&tokenizer, &tokens, &stops);
            let whole = at_once(&tokenizer, &tokens, &stops);
            prop_assert_eq!(&found[..], &whole[..found.len()]);
            prop_assert!(found.len() == tokens.len() || found.last() == Some(&true));
        }
    }

    /// Tokens of several bytes: byte-level BPE, and SentencePiece with byte fallback, whose
    /// first token begins with a space.
    #[test]
    fn watching_equals_searching_with_real_vocabularies() {
        use crate::experiment::ModelSource;
        use crate::model::{OpenOptions, open};
        for name in ["tiny-gpt2", "tiny-llama.gguf", "tiny-qwen2"] {
            let options = OpenOptions {
                base: std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("tests/fixtures/models"),
                ..OpenOptions::default()
            };
            let model = open(&ModelSource::Path(name.into()), &options, &mut |_| {}).unwrap();
            let tokenizer = &model.tokenizer;
            let text = "The café in 世界 said:\n\n🌍 Hello there.\n";
            let mut tokens: Vec<u32> = tokenizer
                .encode_plain(text)
                .unwrap()
                .iter()
                .map(|it| it.id)
                .collect();
            tokens.extend((0..tokenizer.n_vocab() as u32).map(|it| it * 7919 % 300));
            let chars: Vec<char> = text.chars().collect();
            for from in 0..chars.len() {
                for n in 1..=6.min(chars.len() - from) {
                    let stop: String = chars[from..from + n].iter().collect();
                    let stops = [stop, "\u{FFFD}\u{FFFD}".to_owned()];
                    let found = by_watch(tokenizer, &tokens, &stops);
                    let whole = at_once(tokenizer, &tokens[..found.len()], &stops);
                    assert_eq!(found, whole, "{name} {stops:?}");
                }
            }
        }
    }
}
