//! A model's own chat template: messages in, the text the model was trained on out.
//!
//! Templates are Jinja with the conventions of Hugging Face's
//! `apply_chat_template` (transformers 5.23): blocks are trimmed, undefined values
//! print as nothing, Python's string methods exist, and `raise_exception`,
//! `strftime_now` and `tojson` are there. `tests/fixtures/chat/goldens.json` holds
//! what Python's jinja2 makes of the same templates, and of some hundred constructs
//! alone: each renders alike or is an error that names it. Floats of 1e16 and more or
//! under 1e-4, which no template of a model prints, are the one known exception.
//!
//! Promise: a message's content reaches the output as it is unless the template
//! itself changes it; it is data and never parsed as a template. Rendering reads
//! no clock, no file and no environment, and its work is bounded in proportion to
//! the messages. Limits: no tools, no documents, text contents only.

mod date;
mod json;
mod python;
mod tags;

use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context};

use crate::template::{STATEFUL_FUEL, check_depth, is_stateful, on_large_stack};

use self::date::Date;

const NAME: &str = "chat template";
/// Steps every template may take, before its messages are counted; one step also pays
/// for 64 bytes of text, so this bounds the memory of a hostile template at 13 MB.
const BASE_FUEL: u64 = 200_000;
/// Steps per message, on top of those for its bytes.
const FUEL_PER_MESSAGE: u64 = 10_000;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Why a chat template could not be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message")]
pub enum ChatError {
    /// The model has no chat template.
    #[error("the model has no chat template; write the variant with `template` instead")]
    None,
    /// The template is not valid Jinja.
    #[error("the model's chat template is not valid at line {line}: {reason}")]
    Syntax { line: usize, reason: String },
    /// The template itself refused the messages.
    #[error("the model's chat template refuses these messages: {message}")]
    Refused { message: String },
    /// The template asks for today's date.
    #[error(
        "the model's chat template asks for the current date; set `experiment.date`, for example `date = \"2024-07-26\"`, so that prompts stay the same tomorrow"
    )]
    NoDate,
    /// A date that is none.
    #[error("`{date}` is not a date; write it as `2024-07-26`")]
    BadDate { date: String },
    /// More work than the messages warrant.
    #[error("the model's chat template takes more than {fuel} steps for these messages")]
    TooMuchWork { fuel: u64 },
    /// Anything else that went wrong while rendering.
    #[error("the model's chat template fails at line {line}: {reason}")]
    Render { line: usize, reason: String },
}

/// A compiled chat template with the texts of the model's special tokens.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// `strftime_now` was called without a date.
#[derive(Debug, thiserror::Error)]
#[error("no date")]
struct DateMissing;

impl ChatTemplate {
    /// Compiles `source`; `bos` and `eos` become its `bos_token` and `eos_token`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Syntax`] with the line.
    pub fn compile(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, ChatError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let syntax = syntax.map_err(|err| syntax_error(&err))?;
        check_depth(source, syntax.clone()).map_err(|err| ChatError::Syntax {
            line: 1 + source[..err.range.start].matches('\n').count(),
            reason: err.to_string(),
        })?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.add_filter("trim", python::trim);
        // It prints everything a template can see.
        environment.remove_global("debug");
        environment.add_filter("tojson", json::tojson);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Raised(message)))
            },
        );
        environment
            .add_template_owned(NAME, tags::without_generation_tags(source))
            .map_err(|err| syntax_error(&err))?;
        Ok(Self {
            source: source.to_owned(),
            environment,
            bos: bos.map(str::to_owned),
            eos: eos.map(str::to_owned),
        })
    }

    /// The template's text, as the model has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders `messages`, with the opening of an answer if `add_generation_prompt`.
    ///
    /// `date`, written as `2024-07-26`, is what `strftime_now` gives.
    ///
    /// # Errors
    ///
    /// [`ChatError::Refused`] if the template objects to the messages,
    /// [`ChatError::NoDate`] if it wants a date and has none, and the other variants
    /// for a template that fails or does not end.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        date: Option<&str>,
    ) -> Result<String, ChatError> {
        if !is_stateful(&self.source) {
            return self.render_here(messages, add_generation_prompt, date);
        }
        on_large_stack(|| self.render_here(messages, add_generation_prompt, date)).unwrap_or_else(
            |err| {
                Err(ChatError::Render {
                    line: 1,
                    reason: format!("there is no room to render it: {err}"),
                })
            },
        )
    }

    fn render_here(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        date: Option<&str>,
    ) -> Result<String, ChatError> {
        let date = date.map(Date::parse).transpose()?;
        let mut environment = self.environment.clone();
        let fuel = self.fuel(messages);
        environment.set_fuel(Some(fuel));
        environment.add_function("strftime_now", move |format: &str| match date {
            Some(date) => date
                .format(format)
                .map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason)),
            None => {
                Err(Error::new(ErrorKind::InvalidOperation, "no date").with_source(DateMissing))
            }
        });
        for (name, text) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            if let Some(text) = text {
                environment.add_global(name, text.as_str());
            }
        }
        let messages: Value = messages
            .iter()
            .map(|it| context! { role => it.role.as_str(), content => it.content.as_str() })
            .collect();
        let template = environment
            .get_template(NAME)
            .map_err(|err| render_error(&err, fuel))?;
        template
            .render(context! {
                messages,
                add_generation_prompt,
                tools => Value::from(()),
                documents => Value::from(()),
            })
            .map_err(|err| render_error(&err, fuel))
    }

    fn fuel(&self, messages: &[ChatMessage]) -> u64 {
        let n_bytes: usize = messages
            .iter()
            .map(|it| it.role.len() + it.content.len())
            .sum();
        // One step per byte: each may be copied 64 times on its way to the output.
        let fuel = BASE_FUEL
            + (n_bytes + self.source.len()) as u64
            + FUEL_PER_MESSAGE * messages.len() as u64;
        if is_stateful(&self.source) {
            fuel.min(STATEFUL_FUEL)
        } else {
            fuel
        }
    }
}

fn syntax_error(err: &Error) -> ChatError {
    ChatError::Syntax {
        line: err.line().unwrap_or(1),
        reason: reason(err),
    }
}

fn render_error(err: &Error, fuel: u64) -> ChatError {
    let mut cause = err.source();
    while let Some(it) = cause {
        if let Some(Raised(message)) = it.downcast_ref() {
            return ChatError::Refused {
                message: message.clone(),
            };
        }
        if it.is::<DateMissing>() {
            return ChatError::NoDate;
        }
        cause = it.source();
    }
    match err.kind() {
        ErrorKind::OutOfFuel => ChatError::TooMuchWork { fuel },
        _ => ChatError::Render {
            line: err.line().unwrap_or(1),
            reason: reason(err),
        },
    }
}

fn reason(err: &Error) -> String {
    let kind = err.kind().to_string();
    err.detail()
        .map_or(kind.clone(), |detail| format!("{kind}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> Vec<ChatMessage> {
        vec![ChatMessage {
            role: "user".to_owned(),
            content: content.to_owned(),
        }]
    }

    fn render(source: &str, content: &str) -> Result<String, ChatError> {
        ChatTemplate::compile(source, Some("<s>"), None)?.render(&user(content), true, None)
    }

    fn messages(json: &serde_json::Value) -> Vec<ChatMessage> {
        let messages = json.as_array().unwrap().iter();
        messages
            .map(|it| ChatMessage {
                role: it["role"].as_str().unwrap().to_owned(),
                content: it["content"].as_str().unwrap().to_owned(),
            })
            .collect()
    }

    /// Python's jinja2 with transformers' settings; `make_goldens.py` wrote the file.
    #[test]
    fn templates_render_as_in_python() {
        let goldens: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/chat/goldens.json"))
                .unwrap();
        let cases = goldens["cases"].as_array().unwrap();
        assert!(20 < cases.len());
        for case in cases {
            let text = |key: &str| case[key].as_str();
            let template = goldens["templates"][text("template").unwrap()]
                .as_str()
                .unwrap();
            let messages = messages(&case["messages"]);
            let add = case["add_generation_prompt"].as_bool().unwrap();
            let got = ChatTemplate::compile(template, text("bos"), text("eos"))
                .and_then(|it| it.render(&messages, add, text("date")));
            match (text("expected"), text("refused")) {
                (Some(expected), _) => assert_eq!(got.as_deref(), Ok(expected), "{case}"),
                (None, Some(message)) => {
                    assert_eq!(
                        got,
                        Err(ChatError::Refused {
                            message: message.to_owned()
                        })
                    );
                }
                (None, None) => assert!(got.is_err(), "{case}"),
            }
        }
    }

    /// What jinja2 makes of one construct each; what is not done alike must be an error.
    #[test]
    fn a_construct_renders_as_in_python_or_is_refused() {
        let goldens: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/chat/goldens.json"))
                .unwrap();
        let (mut wrong, mut refused, mut n_alike) = (Vec::new(), Vec::new(), 0);
        for snippet in goldens["snippets"].as_array().unwrap() {
            let template = snippet["template"].as_str().unwrap();
            let messages = messages(&goldens["snippet_messages"]);
            let got = ChatTemplate::compile(template, Some("<s>"), Some("</s>"))
                .and_then(|it| it.render(&messages, true, Some("2024-07-26")));
            match (&got, snippet["expected"].as_str()) {
                (Ok(got), Some(expected)) if got == expected => n_alike += 1,
                (Err(_), None) => {}
                (Err(ChatError::Syntax { .. } | ChatError::Render { .. }), _) => {
                    refused.push(template);
                }
                _ => wrong.push(format!("{template}\n  got {got:?}\n  of {snippet}")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(70 < n_alike);
        // What Python renders and we refuse by name.
        let expected = [
            "{{ 'a,b,c'.rsplit(',', 1) }}",
            "{{ 'abc'.index('b') }}",
            "{{ '%s is %d' % ('a', 3) }}",
            "{{ 'a:b:c'.partition(':') }}",
            "{{ 'x'|int }}",
            "{{ 'a b'|wordcount }}",
            "{{ 'hello'|truncate(3) }}",
            "{{ 'a b'|urlencode }}",
            "{{ '<b>x</b>'|striptags }}",
            "{{ {'a': 1}|tojson(separators=(',', ':')) }}",
            "{{ 'é'|tojson(ensure_ascii=true) }}",
            "{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}",
            "{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b",
            "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}",
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn contents_are_never_parsed() {
        let hostile = "{{ 7 * 7 }}{% for %}\u{FDD0}<b>&\r\n  ";
        assert_eq!(
            render("{{ messages[0].content }}", hostile).as_deref(),
            Ok(hostile)
        );
    }

    #[test]
    fn a_date_comes_from_the_experiment_only() {
        let source = "{{ strftime_now('%d %b %Y') }}";
        assert_eq!(render(source, ""), Err(ChatError::NoDate));
        let it = ChatTemplate::compile(source, None, None).unwrap();
        assert_eq!(
            it.render(&[], false, Some("2024-07-26")).as_deref(),
            Ok("26 Jul 2024")
        );
        assert!(matches!(
            it.render(&[], false, Some("2024-02-30")),
            Err(ChatError::BadDate { .. })
        ));
    }

    #[test]
    fn failures_say_where_and_why() {
        assert!(matches!(
            render("a\n{% if %}", ""),
            Err(ChatError::Syntax { line: 2, .. })
        ));
        let message = render("\n{{ messages.x.y }}", "").unwrap_err().to_string();
        assert!(
            message.contains("line 2") && message.contains("undefined"),
            "{message}"
        );
        assert_eq!(
            render("{{ raise_exception('no system role') }}", ""),
            Err(ChatError::Refused {
                message: "no system role".to_owned()
            })
        );
        assert!(render("{{ strftime_now('%Q') }}", "").is_err());
        assert!(render("{% include 'x' %}", "").is_err());
    }

    #[test]
    fn work_is_bounded_but_long_messages_pass() {
        let hostile = [
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "{{ range(100000)|join('a'*10000) }}",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            "{% for i in range(10**9) %}{% endfor %}",
            "{{ ().__class__.__base__.__subclasses__()[0] }}",
            "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
            "{{ debug() }}",
        ];
        for source in hostile {
            assert!(render(source, "a").is_err(), "{source}");
        }
        let nested = "{% set n = namespace(x=[]) %}{% for c in messages[0].content %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}";
        // However long the data: more fuel would be more depth than any stack has.
        assert!(render(nested, &"a".repeat(1 << 25)).is_err());
        // As deep as the fuel reaches, printed.
        for n in [2_000, 10_000, 20_000] {
            render(nested, &"a".repeat(n)).ok();
        }
        for link in [".a", "[0]", "|trim", "()", " ~ x", " and x"] {
            let deep = format!("\n{{{{ messages{} }}}}", link.repeat(100_000));
            assert!(
                matches!(render(&deep, "a"), Err(ChatError::Syntax { line: 2, .. })),
                "{link}"
            );
        }
        let long = "a b ".repeat(1 << 20);
        let chatml = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].strip() + '<|im_end|>\n' }}{% endfor %}";
        assert!(render(chatml, &long).is_ok());
    }
}
