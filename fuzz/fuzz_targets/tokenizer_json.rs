//! A `tokenizer.json`: what loads spells any text back, or says that it cannot.
//!
//! Panics of the library are caught and told as errors, so they are no finding here, unlike
//! one that comes through.
#![no_main]

use harness::model::tokenizer::{Memo, Tokenizer};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use prompt_harness_fuzz::json;

const TEXTS: [&str; 5] = [
    "The end, 2024: été\n ",
    "a <|endoftext|>b ▁c\u{301} 🌍  ",
    "the the the\tthe's",
    "",
    "\u{212b}\u{0}\r\n",
];

// The hook that is there would abort on panics that are caught.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |json: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_json(json) else {
        return;
    };
    let mut memo = Memo::new(&tokenizer);
    for text in TEXTS {
        let Ok(tokens) = tokenizer.encode(text, &[]) else {
            continue;
        };
        assert!(tokens.iter().all(|it| (it.id as usize) < tokenizer.n_vocab()));
        assert!(tokens.iter().all(|it| it.end <= text.len()));
        assert!(tokens.is_sorted_by_key(|it| it.end));
        let remembered = memo.encode(text, &[]).expect("what is encoded whole is in parts");
        assert_eq!(remembered, tokens);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});
