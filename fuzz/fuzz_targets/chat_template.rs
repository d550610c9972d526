//! A chat template out of a model: rendered or refused, in bounded time.
#![no_main]

use harness::model::chat::{ChatMessage, ChatTemplate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::compile(source, Some("<s>"), Some("</s>")) else {
        return;
    };
    let message = |role: &str, content: &str| ChatMessage {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let messages = [
        message("system", "be brief"),
        message("user", "{{ 7 * 7 }} <|im_end|>"),
        message("assistant", " yes\n"),
    ];
    for add in [false, true] {
        let _ = template.render(&messages, add, Some("2024-07-26"));
    }
});
