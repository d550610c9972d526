//! `[variants.NAME]`: the prompt formulations under test.
//!
//! A variant may inherit from another through `base`. Inheritance works on what was
//! written, key by key, before anything is checked as a whole; a [`VariantSpec`] is the
//! outcome and knows nothing of it but the name.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::diagnostic::{Diagnostic, Place, Spanned};
use super::fields::{Fields, Keyword, Problems};
use super::inheritance;
use super::template_text::TemplateText;

/// One prompt formulation, with everything it inherits.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantSpec {
    /// Its name, at the place of its table.
    pub name: Spanned<String>,
    /// What the model is shown.
    pub prompt: Prompt,
    /// How many solved examples stand in the prompt.
    pub shots: Spanned<usize>,
    /// What stands between prompt and target; `None` for that of `[scoring]`. Never set for
    /// a chat.
    pub delimiter: Option<String>,
    /// Weights laid over the model's for this variant.
    pub adapter: Option<Spanned<PathBuf>>,
    /// The variant it inherits from.
    pub base: Option<Spanned<String>>,
}

/// What the model is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A plain text.
    Raw {
        /// The text with placeholders.
        template: TemplateSource,
        /// How one shot is written; they are joined and stand at `{{ examples }}`.
        example: Option<TemplateText>,
    },
    /// Messages, put into the model's own chat template.
    Chat {
        /// A system message at most at the beginning, and one user message at least. Shots
        /// become user and assistant turns before the last user message.
        messages: Vec<Message>,
    },
}

/// A template in the experiment file or in one of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateSource {
    /// In the experiment file.
    Inline(TemplateText),
    /// In a file, relative to the experiment's folder.
    File(Spanned<PathBuf>),
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: TemplateSource,
}

/// Who speaks in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// The person.
    User,
    /// The model; as the last message, the beginning of its answer.
    Assistant,
}

impl Keyword for Role {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("system", Self::System),
        ("user", Self::User),
        ("assistant", Self::Assistant),
    ];
}

/// A variant as written, before inheritance; a key that is absent or bad is `None`.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) name: Spanned<String>,
    pub(super) base: Option<Spanned<String>>,
    pub(super) body: Option<Body>,
    pub(super) system: Option<TemplateText>,
    pub(super) example: Option<TemplateText>,
    pub(super) shots: Option<Spanned<usize>>,
    pub(super) delimiter: Option<Spanned<String>>,
    pub(super) adapter: Option<Spanned<PathBuf>>,
    /// A problem was reported that leaves it unclear what was meant.
    pub(super) is_broken: bool,
}

/// The part of a variant that is given in one of several ways.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Raw(TemplateSource),
    User(TemplateText),
    Messages(Vec<Message>, Place),
}

/// What the rest of the file has that variants depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub(super) has_fewshot: bool,
    pub(super) has_target: bool,
}

/// Reads all variants; those with a problem are missing from the result.
pub(super) fn read(
    tables: &[(Spanned<String>, Fields<'_>)],
    around: Surroundings,
) -> IndexMap<String, VariantSpec> {
    let written: IndexMap<String, Written> = tables
        .iter()
        .map(|(name, fields)| (name.value.clone(), read_one(name, *fields)))
        .collect();
    let mut variants = IndexMap::new();
    for ((name, own), (_, fields)) in written.iter().zip(tables) {
        let whole = inheritance::inherit(own, &written, fields.problems);
        let spec = whole.and_then(|whole| build(whole, around, fields.problems));
        variants.extend(spec.map(|spec| (name.clone(), spec)));
    }
    variants
}

fn read_one(name: &Spanned<String>, fields: Fields<'_>) -> Written {
    let (body, body_is_broken) = read_body(fields);
    let written = Written {
        name: name.clone(),
        base: fields.string("base"),
        body,
        system: fields.template("system"),
        example: fields.template("example"),
        shots: fields.count("shots", 0),
        delimiter: fields.string("delimiter"),
        adapter: fields.path("adapter"),
        is_broken: false,
    };
    // Checks of the whole would repeat what was said about a key that is there but bad.
    let bad = (fields.has("base") && written.base.is_none())
        || (fields.has("system") && written.system.is_none())
        || (fields.has("example") && written.example.is_none())
        || (fields.has("shots") && written.shots.is_none());
    Written {
        is_broken: bad || body_is_broken,
        ..written
    }
}

/// The ways to give a prompt, of which a variant uses one.
const BODIES: [&str; 4] = ["template", "file", "user", "messages"];

/// The one of `template`, `file`, `user`, `messages` that is there, and whether something is
/// wrong with it.
fn read_body(fields: Fields<'_>) -> (Option<Body>, bool) {
    let there: Vec<&str> = BODIES.into_iter().filter(|key| fields.has(key)).collect();
    let body = match there[..] {
        [] => return (None, BODIES.iter().any(|key| fields.seems_to_have(key))),
        ["template"] => fields
            .template("template")
            .map(|it| Body::Raw(TemplateSource::Inline(it))),
        ["file"] => fields
            .path("file")
            .map(|it| Body::Raw(TemplateSource::File(it))),
        ["user"] => fields.template("user").map(Body::User),
        [_messages] => messages(fields),
        [first, second, ..] => {
            fields.problems.push(
                Diagnostic::error(format!("`{}` has both `{first}` and `{second}`", fields.name()))
                    .at(fields.key_place(second), "and this")
                    .at(fields.key_place(first), "this")
                    .help("keep one of them: `template` or `file` for a plain prompt, `user` or `messages` for a chat"),
            );
            None
        }
    };
    let is_broken = body.is_none();
    (body, is_broken)
}

fn messages(fields: Fields<'_>) -> Option<Body> {
    let items = fields.list("messages")?;
    let place = fields.key_place("messages");
    let name = format!("{}.messages", fields.name());
    let read = items
        .iter()
        .map(|item| message(Fields::of(item, &name, fields.problems)?));
    // Each one is read, so that each problem is found, before the first `None` counts.
    let messages: Vec<Option<Message>> = read.collect();
    let messages: Vec<Message> = messages.into_iter().collect::<Option<_>>()?;
    let help = "a chat is [system,] user [, assistant, user ...]";
    if let Some(index) = messages
        .iter()
        .skip(1)
        .position(|it| it.role == Role::System)
    {
        fields.problems.error(
            &items[index + 1].place,
            "a system message stands only at the beginning",
            help,
        );
        return None;
    }
    if !messages.iter().any(|it| it.role == Role::User) {
        fields.problems.error(
            place,
            "`messages` has no message with `role = \"user\"`",
            help,
        );
        return None;
    }
    if fields.has("system") {
        fields.problems.push(
            Diagnostic::error("`system` next to `messages`")
                .at(fields.key_place("system"), "")
                .help("make it the first message: { role = \"system\", content = \"...\" }"),
        );
        return None;
    }
    Some(Body::Messages(messages, place.clone()))
}

fn message(fields: Fields<'_>) -> Option<Message> {
    let role = fields.required("role", fields.keyword("role"), "\"user\"");
    let content = match (fields.has("content"), fields.has("file")) {
        (true, true) => {
            fields.error(
                "file",
                "a message has both `content` and `file`",
                "keep one of them",
            );
            None
        }
        (false, true) => fields.path("file").map(TemplateSource::File),
        _ => {
            let content =
                fields.required("content", fields.template("content"), "\"{{ question }}\"");
            content.map(TemplateSource::Inline)
        }
    };
    Some(Message {
        role: role?.value,
        content: content?,
    })
}

/// Checks a variant as a whole.
fn build(whole: Written, around: Surroundings, problems: &Problems) -> Option<VariantSpec> {
    let name = &whole.name;
    let Some(body) = whole.body else {
        let message = format!("`[variants.{}]` has no prompt", name.value);
        let help = "add `template = \"{{ text }}\\nAnswer:\"`, or `user = \"{{ text }}\"` for the model's chat template";
        problems.error(&name.place, message, help);
        return None;
    };
    let shots = whole
        .shots
        .unwrap_or_else(|| Spanned::new(0, name.place.clone()));
    if 0 < shots.value && !around.has_fewshot {
        let message = format!(
            "`[variants.{}]` has `shots`, but there is no `[fewshot]` to draw them from",
            name.value
        );
        let help = "add [fewshot] with `path = \"data/train.jsonl\"`: examples that are not in the dataset";
        problems.error(&shots.place, message, help);
    }
    let prompt = match body {
        Body::Raw(template) => {
            if let Some(system) = &whole.system {
                let message = "`system` belongs to a chat, and this is a plain prompt";
                problems.error(
                    &system.place,
                    message,
                    "write it into `template`, or use `user` instead of `template`",
                );
            }
            if 0 < shots.value {
                check_shots(&template, whole.example.as_ref(), &shots, problems);
            }
            Prompt::Raw {
                template,
                example: whole.example.clone(),
            }
        }
        Body::User(user) => {
            let message = |role, text| Message {
                role,
                content: TemplateSource::Inline(text),
            };
            let system = whole.system.map(|text| message(Role::System, text));
            Prompt::Chat {
                messages: system
                    .into_iter()
                    .chain([message(Role::User, user)])
                    .collect(),
            }
        }
        Body::Messages(messages, place) => {
            if let Some(system) = &whole.system {
                problems.push(
                    Diagnostic::error("`system` cannot be combined with inherited `messages`")
                        .at(&system.place, "")
                        .at(&place, "inherited")
                        .help("write `messages` out, with { role = \"system\", ... } first"),
                );
            }
            Prompt::Chat { messages }
        }
    };
    if matches!(prompt, Prompt::Chat { .. }) {
        check_chat(
            whole.delimiter.as_ref(),
            whole.example.as_ref(),
            &shots,
            around,
            problems,
        );
    }
    Some(VariantSpec {
        prompt,
        shots,
        delimiter: whole.delimiter.map(|it| it.value),
        adapter: whole.adapter,
        base: whole.base,
        name: whole.name,
    })
}

/// A plain prompt with shots says how one is written and where they stand.
fn check_shots(
    template: &TemplateSource,
    example: Option<&TemplateText>,
    shots: &Spanned<usize>,
    problems: &Problems,
) {
    if example.is_none() {
        let message = "`shots` without `example`: nothing says how a shot is written";
        let help = "add `example = \"{{ text }} -> {{ label }}\\n\"`, and `{{ examples }}` in the template";
        problems.error(&shots.place, message, help);
    }
    if let TemplateSource::Inline(template) = template
        && !mentions_examples(&template.text)
    {
        let message = format!(
            "{} shots are drawn, but the template never shows them",
            shots.value
        );
        problems.push(
            Diagnostic::error(message)
                .at(&template.place, "")
                .at(&shots.place, "drawn here")
                .help("put `{{ examples }}` where they belong, or set `shots = 0`"),
        );
    }
}

/// Whether the word `examples` stands in a template; a file's is checked once it is read.
fn mentions_examples(template: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    template
        .split(|c| !is_word(c))
        .any(|word| word == "examples")
}

/// The model's chat template leaves no room for a delimiter; turns of shots need answers.
fn check_chat(
    delimiter: Option<&Spanned<String>>,
    example: Option<&TemplateText>,
    shots: &Spanned<usize>,
    around: Surroundings,
    problems: &Problems,
) {
    if let Some(delimiter) = delimiter {
        let message =
            "`delimiter` has no meaning in a chat, where nothing stands before the answer";
        problems.error(&delimiter.place, message, "delete the line");
    }
    if let Some(example) = example {
        let message =
            "`example` has no meaning in a chat, where a shot is a user and an assistant turn";
        problems.error(&example.place, message, "delete the line");
    }
    if 0 < shots.value && !around.has_target {
        let message =
            "`shots` in a chat need `[dataset].target`, which is what the assistant answers";
        problems.error(
            &shots.place,
            message,
            "add `target = \"{{ field }}\"` under [dataset]",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{message, spec};

    #[test]
    fn system_and_user_are_short_for_messages() {
        let prompt = |rest: &str| {
            spec(&format!("[variants.a]\n{rest}\n")).variants["a"]
                .prompt
                .clone()
        };
        let short = prompt("system = 'S'\nuser = 'U'");
        let long = prompt(
            "messages = [{ role = 'system', content = 'S' }, { role = 'user', content = 'U' }]",
        );
        assert_eq!(short, long);
        let Prompt::Chat { messages } = short else {
            panic!("a chat")
        };
        assert_eq!(
            messages.iter().map(|it| it.role).collect::<Vec<_>>(),
            [Role::System, Role::User]
        );
    }

    #[test]
    fn a_variant_parses_or_says_why_not() {
        let table = [
            ("", "`[variants.a]` has no prompt"),
            ("tempalte = 'T'", "unknown key `tempalte` in `[variants.a]`"),
            ("template = ''", ""),
            (
                "template = 'T'\nfile = 'x.jinja'",
                "`[variants.a]` has both `template` and `file`",
            ),
            (
                "user = 'U'\nmessages = []",
                "`[variants.a]` has both `user` and `messages`",
            ),
            ("file = ''", "`file` is empty"),
            (
                "template = 'T'\nsystem = 'S'",
                "`system` belongs to a chat, and this is a plain prompt",
            ),
            (
                "user = 'U'\ndelimiter = ''",
                "`delimiter` has no meaning in a chat, where nothing stands before the answer",
            ),
            (
                "user = 'U'\nexample = 'E'",
                "`example` has no meaning in a chat, where a shot is a user and an assistant turn",
            ),
            ("user = 'U'\nshots = 2", ""),
            (
                "messages = []",
                "`messages` has no message with `role = \"user\"`",
            ),
            (
                "messages = ['U']",
                "expected a table for `[variants.a].messages`, got a string",
            ),
            (
                "messages = [{ content = 'U' }]",
                "`[variants.a].messages` has no `role`",
            ),
            (
                "messages = [{ role = 'user' }]",
                "`[variants.a].messages` has no `content`",
            ),
            (
                "messages = [{ role = 'user', content = 'U', file = 'x' }]",
                "a message has both `content` and `file`",
            ),
            (
                "messages = [{ role = 'user', content = 'U' }, { role = 'system', content = 'S' }]",
                "a system message stands only at the beginning",
            ),
            (
                "messages = [{ role = 'user', content = 'U' }, { role = 'assistant', content = 'A' }]",
                "",
            ),
            (
                "messages = [{ role = 'user', content = 'U' }]\nsystem = 'S'",
                "`system` next to `messages`",
            ),
            (
                "template = '{{ examples }}T'\nshots = 2",
                "`shots` without `example`: nothing says how a shot is written",
            ),
            (
                "template = '{{ my_examples }}'\nshots = 2\nexample = 'E'",
                "2 shots are drawn, but the template never shows them",
            ),
            (
                "template = '{% for e in examples %}{{ e }}{% endfor %}'\nshots = 2\nexample = 'E'",
                "",
            ),
            ("file = 'x.jinja'\nshots = 2\nexample = 'E'", ""),
            ("template = 'T'\nexample = 'E'", ""),
        ];
        for (rest, expected) in table {
            let text = format!("[fewshot]\npath = 'f.csv'\n[variants.a]\n{rest}\n");
            assert_eq!(message(&text), expected, "{rest}");
        }
    }

    #[test]
    fn shots_need_something_to_draw_from_and_to_answer() {
        let shots = "[variants.a]\nuser = 'U'\nshots = 2\n";
        let no_fewshot =
            "`[variants.a]` has `shots`, but there is no `[fewshot]` to draw them from";
        assert_eq!(message(shots), no_fewshot);
        let no_target = "[dataset]\npath = 'd.csv'\n[generation]\nmax_tokens = 1\n[[metrics]]\nuse = 'is_json'\n[fewshot]\npath = 'f.csv'\n";
        let expected =
            "`shots` in a chat need `[dataset].target`, which is what the assistant answers";
        assert_eq!(message(&format!("{no_target}{shots}")), expected);
    }
}
