//! A `tokenizer.json`: what loads spells any text back, or says that it cannot.
#![no_main]

use harness::model::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_json(json)
        && let Ok(tokens) = tokenizer.encode_plain("The end, 2024: été\n ")
    {
        assert!(tokens.iter().all(|it| (it.id as usize) < tokenizer.n_vocab()));
    }
});
