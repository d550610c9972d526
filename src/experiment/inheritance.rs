//! What a variant takes from its `base`.
//!
//! A key that is set stays; the rest comes from the base, and from the base's base. The
//! prompt itself is one such key, whether it is a template, a file, a user message or a list
//! of messages.

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, Spanned};
use super::fields::{Problems, suggestion};
use super::variant::{Body, Written};

/// The variant with what it inherits; `None` if that cannot be told, which was reported here
/// or at a base.
pub(super) fn inherit(
    own: &Written,
    all: &IndexMap<String, Written>,
    problems: &Problems,
) -> Option<Written> {
    let mut whole = own.clone();
    let mut seen = vec![own.name.value.as_str()];
    let mut last = own;
    while let Some(base) = &last.base {
        let Some(next) = all.get(&base.value) else {
            if last.name == own.name {
                problems.push(unknown_base(base, own, all));
            }
            return None;
        };
        if let Some(first) = seen.iter().position(|name| *name == base.value) {
            // Reported once, at the member of the circle that comes first in the file.
            let circle = &seen[first..];
            let index = |name: &str| all.get_index_of(name);
            if circle.iter().min_by_key(|name| index(name)) == Some(&own.name.value.as_str()) {
                let path = circle.join("` -> `");
                let message = format!(
                    "`base` goes round in a circle: `{path}` -> `{}`",
                    base.value
                );
                problems.error(&base.place, message, "delete one `base` of the circle");
            }
            return None;
        }
        seen.push(&base.value);
        if is_mismatch(whole.body.as_ref(), next.body.as_ref()) {
            // A mismatch further up is reported where it is.
            if own.body.is_some() {
                problems.push(mismatch(own, next));
            }
            return None;
        }
        fill(&mut whole, next);
        last = next;
    }
    (!whole.is_broken).then_some(whole)
}

fn unknown_base(
    base: &Spanned<String>,
    own: &Written,
    all: &IndexMap<String, Written>,
) -> Diagnostic {
    let known: Vec<&str> = all
        .keys()
        .map(String::as_str)
        .filter(|name| *name != own.name.value)
        .collect();
    let help = match suggestion(&base.value, &known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the other variants are: {}", known.join(", ")),
    };
    Diagnostic::error(format!(
        "there is no variant `{}` to inherit from",
        base.value
    ))
    .at(&base.place, "")
    .help(help)
}

/// Whether one is a plain prompt and the other a chat.
fn is_mismatch(one: Option<&Body>, other: Option<&Body>) -> bool {
    let is_raw = |body: &Body| matches!(body, Body::Raw(_));
    one.is_some_and(|one| other.is_some_and(|other| is_raw(one) != is_raw(other)))
}

fn mismatch(own: &Written, base: &Written) -> Diagnostic {
    let kind = |it: &Written| match it.body {
        Some(Body::Raw(_)) | None => "a plain prompt",
        Some(Body::User(_) | Body::Messages(..)) => "a chat",
    };
    let message = format!(
        "`{}` is {}, but inherits from `{}`, which is {}",
        own.name.value,
        kind(own),
        base.name.value,
        kind(base),
    );
    let place = own.base.as_ref().map_or(&own.name.place, |it| &it.place);
    Diagnostic::error(message)
        .at(place, "")
        .help("delete `base` and write out the keys that are missing")
}

/// Takes from `base` what `whole` does not have.
fn fill(whole: &mut Written, base: &Written) {
    // Messages hold their system message themselves.
    let has_messages = matches!(whole.body, Some(Body::Messages(..)));
    if whole.system.is_none() && !has_messages {
        whole.system.clone_from(&base.system);
    }
    if whole.body.is_none() {
        whole.body.clone_from(&base.body);
    }
    whole.example = whole.example.take().or_else(|| base.example.clone());
    whole.shots = whole.shots.take().or_else(|| base.shots.clone());
    whole.delimiter = whole.delimiter.take().or_else(|| base.delimiter.clone());
    whole.adapter = whole.adapter.take().or_else(|| base.adapter.clone());
    whole.is_broken |= base.is_broken;
}

#[cfg(test)]
mod tests {
    use crate::experiment::testing::{message, spec};
    use crate::experiment::{Prompt, TemplateSource, VariantSpec};

    fn variant(text: &str, name: &str) -> VariantSpec {
        spec(&format!("[fewshot]\npath = 'f.csv'\n{text}")).variants[name].clone()
    }

    const FEW: &str = "[variants.few]\nshots = 3\nexample = '{{ en }}'\ndelimiter = ' '\nadapter = 'a.safetensors'\n\
        template = '{{ examples }}{{ en }}'\n";

    /// What is not set is inherited, over several steps and in any order of the file.
    #[test]
    fn a_variant_takes_what_it_does_not_set() {
        let text = format!(
            "[variants.a]\nbase = 'b'\nshots = 1\n[variants.b]\nbase = 'few'\ndelimiter = ''\n{FEW}"
        );
        let a = variant(&text, "a");
        assert_eq!(a.shots.value, 1, "its own");
        assert_eq!(
            a.delimiter.as_deref(),
            Some(""),
            "its base's, although it is empty"
        );
        assert_eq!(a.adapter, variant(FEW, "few").adapter, "its base's base's");
        assert_eq!(a.prompt, variant(FEW, "few").prompt);
        assert_eq!(a.base.unwrap().value, "b");
    }

    #[test]
    fn a_template_replaces_an_inherited_file() {
        let text = "[variants.a]\nfile = 'x.jinja'\n[variants.b]\nbase = 'a'\ntemplate = 'T'\n";
        let Prompt::Raw {
            template: TemplateSource::Inline(text),
            ..
        } = variant(text, "b").prompt
        else {
            panic!("a plain prompt");
        };
        assert_eq!(text.text, "T");
    }

    #[test]
    fn a_chat_keeps_the_system_message_of_its_base() {
        let text = "[variants.a]\nsystem = 'S'\nuser = 'U'\n[variants.b]\nbase = 'a'\nuser = 'V'\n\
            [variants.c]\nbase = 'a'\nmessages = [{ role = 'user', content = 'W' }]\n";
        let count = |name| match variant(text, name).prompt {
            Prompt::Chat { messages } => messages.len(),
            Prompt::Raw { .. } => 0,
        };
        assert_eq!((count("b"), count("c")), (2, 1), "messages hold their own");
    }

    /// One mistake is one message, however many variants build on it.
    #[test]
    fn a_mistake_in_a_base_is_reported_once() {
        let table = [
            (
                "[variants.a]\nbase = 'x'\n[variants.b]\nbase = 'a'\n",
                "there is no variant `x` to inherit from",
            ),
            (
                "[variants.a]\ntemplate = 1\n[variants.b]\nbase = 'a'\n",
                "expected a string for `template`, got 1",
            ),
            (
                "[variants.a]\nbase = 'a'\ntemplate = 'T'\n",
                "`base` goes round in a circle: `a` -> `a`",
            ),
            (
                "[variants.c]\nbase = 'a'\n[variants.a]\nbase = 'b'\ntemplate = 'T'\n[variants.b]\nbase = 'a'\n",
                "`base` goes round in a circle: `a` -> `b` -> `a`",
            ),
            (
                "[variants.a]\nuser = 'U'\n[variants.b]\nbase = 'a'\ntemplate = 'T'\n[variants.c]\nbase = 'b'\n",
                "`b` is a plain prompt, but inherits from `a`, which is a chat",
            ),
            (
                "[variants.a]\nmessages = [{ role = 'user', content = 'U' }]\n[variants.b]\nbase = 'a'\nsystem = 'S'\n",
                "`system` cannot be combined with inherited `messages`",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(message(text), expected, "{text}");
        }
    }
}
