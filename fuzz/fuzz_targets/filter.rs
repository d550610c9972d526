//! A condition on examples: true, false, or refused with a place inside it.
#![no_main]

use harness::dataset::Fields;
use harness::template::Filter;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let mut fields = Fields::new();
    fields.insert("x".to_owned(), json!("text"));
    fields.insert("n".to_owned(), json!(3));
    if let Err(error) = Filter::compile(source).and_then(|it| it.keeps(&fields)) {
        assert!(error.range.is_none_or(|it| it.end <= source.len()));
    }
});
