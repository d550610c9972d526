//! A prompt template: compiled and rendered, or refused with a place inside it.
#![no_main]

use harness::dataset::Fields;
use harness::template::Template;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let mut fields = Fields::new();
    fields.insert("x".to_owned(), json!("text of {{ data }}"));
    fields.insert("xs".to_owned(), json!(["a", 1.10, null, {"b": [true]}]));
    let error = match Template::compile(source) {
        Ok(template) => match template
            .render(&fields)
            .and_then(|_| template.evaluate(&fields))
        {
            Ok(_) => return,
            Err(error) => error,
        },
        Err(error) => error,
    };
    if let Some(range) = error.range {
        assert!(source.get(range.clone()).is_some(), "{range:?}");
    }
});
