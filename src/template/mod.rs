//! Compiles a prompt template, lists its fields, renders one example.
//!
//! Templates are Jinja (minijinja 3): undefined names are errors, nothing is
//! escaped, white space is verbatim, no other file can be read. Only the template
//! is code: `{{` inside a field stays text. Work is bounded by fuel in proportion
//! to the template and the fields, so no template hangs a run or fills memory.
//!
//! Numbers print as the dataset writes them where they are printed by themselves
//! (`{{ price }}`); joined, listed or computed with they print as 64-bit floats.
//! Booleans and null print as in Python: `True`, `None`.
//!
//! [`Guard`] keeps special-token text from data apart from that of the template;
//! [`draw`] chooses few-shot examples. Knows `dataset`.

mod depth;
mod fields;
mod guard;
mod known;
mod shots;
mod values;

use std::ops::Range;

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::dataset::{Fields, RESERVED, shown};

pub use depth::{STATEFUL_FUEL, TooDeep, check_depth, is_stateful, on_large_stack};
pub use fields::Field;
pub use guard::{Guard, Guarded};
pub use shots::{Draw, ShotOrder, draw};
use values::Context;

/// A compiled prompt template.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    fields: Vec<Field>,
    /// Where the expression starts if the source is one `{{ expression }}`.
    expression: Option<usize>,
    environment: Environment<'static>,
}

/// Why a template could not be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// Bytes of the source that the message is about.
    pub range: Option<Range<usize>>,
    /// What to try.
    pub hint: Option<String>,
}

/// Names of the two programs of an environment.
const WHOLE: &str = "template";
const VALUE: &str = "value";

/// Stands before an expression so that its value can be read after the run.
const VALUE_HEAD: &str = "{% set value = ";

/// Fuel that every render gets: one unit pays for an instruction or 64 bytes.
const BASE_FUEL: u64 = 50_000;

/// Fuel for each byte of template and data. Filters take less than 1 unit a byte,
/// a loop over the numbers of a list 2, one over the characters of a text 10.
const FUEL_PER_BYTE: u64 = 16;

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    ///
    /// A syntax error, a statement that would read another file (`include`,
    /// `import`, `from`, `extends`), or the reserved character U+FDD0.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        if let Some(at) = source.find(RESERVED) {
            return Err(TemplateError {
                message: "the character U+FDD0 is not allowed in a template".to_owned(),
                range: Some(at..at + RESERVED.len_utf8()),
                hint: None,
            });
        }
        let syntax = syntax();
        check_depth(source, syntax.clone()).map_err(|it| TemplateError {
            message: it.to_string(),
            range: Some(it.range),
            hint: Some("write a loop, or a list with `in`".to_owned()),
        })?;
        let tree = parse(source, WHOLE, syntax.clone()).map_err(|it| syntax_error(&it, source))?;
        let mut environment = environment(syntax);
        let globals = environment
            .globals()
            .map(|(name, _)| name.to_owned())
            .collect();
        let found = fields::find(&tree, globals);
        if let Some(refusal) = found.refusals.into_iter().next() {
            return Err(TemplateError {
                message: format!(
                    "a template cannot read another one (`{}`)",
                    refusal.statement
                ),
                range: Some(refusal.range),
                hint: Some("write the text into this template".to_owned()),
            });
        }
        environment
            .add_template_owned(WHOLE, source.to_owned())
            .map_err(|it| syntax_error(&it, source))?;
        let expression = only_expression(source, &tree).filter(|inner| {
            let program = format!("{VALUE_HEAD}{} %}}", &source[inner.clone()]);
            environment.add_template_owned(VALUE, program).is_ok()
        });
        let expression = expression.map(|inner| inner.start);
        Ok(Self {
            source: source.to_owned(),
            fields: found.fields,
            expression,
            environment,
        })
    }

    /// Returns the text that was compiled.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the fields that the template reads, by first use.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns true if the source is exactly one `{{ expression }}`.
    pub fn is_expression(&self) -> bool {
        self.expression.is_some()
    }

    /// Returns the template filled with `fields`.
    ///
    /// # Errors
    ///
    /// An undefined field, an operation on values of the wrong type, or more work
    /// than the size of template and fields justifies.
    pub fn render(&self, fields: &Fields) -> Result<String, TemplateError> {
        if !is_stateful(&self.source) {
            return self.render_here(fields);
        }
        on_large_stack(|| self.render_here(fields)).unwrap_or_else(|err| {
            Err(TemplateError {
                message: format!("there is no room to render a template with a namespace: {err}"),
                range: None,
                hint: None,
            })
        })
    }

    fn render_here(&self, fields: &Fields) -> Result<String, TemplateError> {
        let context = Context::new(fields);
        let (environment, value) = self.prepared(context);
        let program = environment.get_template(WHOLE).expect("added by `compile`");
        program
            .render(value)
            .map_err(|it| self.explained(&it, fields))
    }

    /// Returns the value of the expression, or the rendered text as a string.
    ///
    /// A source that is exactly one `{{ expression }}` keeps its type: a list
    /// stays a list, an integer an integer.
    ///
    /// # Errors
    ///
    /// As for [`Template::render`]; also a value without a JSON form.
    pub fn evaluate(&self, fields: &Fields) -> Result<serde_json::Value, TemplateError> {
        if self.expression.is_none() {
            return self.render(fields).map(serde_json::Value::String);
        }
        let context = Context::new(fields);
        let numbers = context.numbers.clone();
        let (environment, value) = self.prepared(context);
        let program = environment.get_template(VALUE).expect("checked above");
        let state = program
            .render_captured(value)
            .map_err(|it| self.explained(&it, fields))?;
        let value = state.state().lookup(VALUE).unwrap_or(Value::UNDEFINED);
        if value.is_undefined() {
            return Err(self.undefined(None, fields, None));
        }
        values::to_json(&value, &numbers).map_err(|kind| TemplateError {
            message: format!("the expression gives a value of kind `{kind}`, which is no data"),
            range: Some(0..self.source.len()),
            hint: None,
        })
    }

    /// An environment with fuel for this data, and the data.
    fn prepared(&self, context: Context) -> (Environment<'static>, Value) {
        let mut environment = self.environment.clone();
        let n_bytes = context.n_bytes + self.source.len() as u64;
        let fuel = BASE_FUEL + FUEL_PER_BYTE * n_bytes;
        let most = if is_stateful(&self.source) {
            STATEFUL_FUEL
        } else {
            u64::MAX
        };
        environment.set_fuel(Some(fuel.min(most)));
        if !context.numbers.is_empty() {
            let numbers = context.numbers;
            environment.set_formatter(move |out, state, value| {
                match values::number_text(value, &numbers) {
                    Some(text) => out.write_str(text).map_err(Error::from),
                    None => minijinja::escape_formatter(out, state, value),
                }
            });
        }
        (environment, context.value)
    }

    /// Turns an error of a run into one about this source and these fields.
    fn explained(&self, error: &Error, fields: &Fields) -> TemplateError {
        let range = error
            .range()
            .map(|range| match (error.name(), self.expression) {
                (Some(VALUE), Some(start)) => {
                    let moved = |at: usize| (at + start).saturating_sub(VALUE_HEAD.len());
                    moved(range.start)..moved(range.end)
                }
                _ => range,
            })
            // The engine has ranges that end before they begin.
            .and_then(|it| clipped(it, &self.source));
        match error.kind() {
            ErrorKind::UndefinedError => self.undefined(range, fields, Some(message(error))),
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest => self.unknown(error, range),
            ErrorKind::OutOfFuel => TemplateError {
                message: "the template does far more work than its size and data justify"
                    .to_owned(),
                range,
                hint: Some("look for a loop, a repetition or a recursion without bound".to_owned()),
            },
            _ => TemplateError {
                message: message(error),
                range,
                hint: None,
            },
        }
    }

    /// Names the filter or test that there is none of.
    fn unknown(&self, error: &Error, range: Option<Range<usize>>) -> TemplateError {
        let written = range.clone().and_then(|it| self.source.get(it));
        match known::unknown(error, written.unwrap_or_default()) {
            Some((what, name, known)) => TemplateError {
                message: format!("there is no {what} `{name}`"),
                hint: did_you_mean(name, &known),
                range,
            },
            None => TemplateError {
                message: message(error),
                range,
                hint: None,
            },
        }
    }

    /// Names the field that is missing at `range`, if it is one.
    fn undefined(
        &self,
        range: Option<Range<usize>>,
        fields: &Fields,
        message: Option<String>,
    ) -> TemplateError {
        // The engine points at an operand or at the filter behind it; a missing
        // field is inside that range, or before it in the same pair of braces.
        let explains = |place: &Range<usize>| match &range {
            None => true,
            Some(it) if it.start <= place.start => place.end <= it.end,
            Some(it) => self
                .source
                .get(place.end..it.start)
                .is_some_and(|between| !between.contains("}}") && !between.contains("%}")),
        };
        let missing = self
            .fields
            .iter()
            .filter(|field| !fields.contains_key(&field.name))
            .find_map(|field| Some((field, field.ranges.iter().find(|it| explains(it))?)));
        match missing {
            Some((field, place)) => {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                TemplateError {
                    message: format!(
                        "field `{}` is not defined, the example has: {}",
                        field.name,
                        known
                            .iter()
                            .map(|it| shown(it))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                    range: Some(place.clone()),
                    hint: did_you_mean(&field.name, &known),
                }
            }
            None => TemplateError {
                message: message.unwrap_or_else(|| "the expression gives no value".to_owned()),
                range: range.or(Some(0..self.source.len())),
                hint: None,
            },
        }
    }
}

/// A condition on the fields of an example, such as `domain == 'ui'`.
#[derive(Debug, Clone)]
pub struct Filter {
    template: Template,
    fields: Vec<Field>,
}

/// What turns an expression into a template, and how far it moves every range.
const FILTER_HEAD: &str = "{{ ";

impl Filter {
    /// Compiles `expression`, which is written without braces.
    ///
    /// # Errors
    ///
    /// Anything that is not exactly one expression; ranges are in `expression`.
    pub fn compile(expression: &str) -> Result<Self, TemplateError> {
        let back = |error| moved_back(error, expression.len());
        let template =
            Template::compile(&format!("{FILTER_HEAD}{expression} }}}}")).map_err(back)?;
        if !template.is_expression() {
            return Err(TemplateError {
                message: "expected one expression, such as `domain == 'ui'`".to_owned(),
                range: Some(0..expression.len()),
                hint: None,
            });
        }
        let mut fields = template.fields.clone();
        for range in fields.iter_mut().flat_map(|it| &mut it.ranges) {
            *range = range.start - FILTER_HEAD.len()..range.end - FILTER_HEAD.len();
        }
        Ok(Self { template, fields })
    }

    /// Returns the fields that the condition reads, by first use.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns whether an example with these fields is kept.
    ///
    /// # Errors
    ///
    /// As for [`Template::evaluate`], and if the value is not a boolean.
    pub fn keeps(&self, fields: &Fields) -> Result<bool, TemplateError> {
        let length = self.template.source.len() - FILTER_HEAD.len() - " }}".len();
        match self
            .template
            .evaluate(fields)
            .map_err(|it| moved_back(it, length))?
        {
            serde_json::Value::Bool(keeps) => Ok(keeps),
            other => Err(TemplateError {
                message: format!("expected true or false, got `{other}`"),
                range: Some(0..length),
                hint: Some("compare with something, such as `domain == 'ui'`".to_owned()),
            }),
        }
    }
}

/// Moves the range of an error from the template to the expression inside.
fn moved_back(mut error: TemplateError, length: usize) -> TemplateError {
    let moved = |at: usize| at.saturating_sub(FILTER_HEAD.len()).min(length);
    error.range = error.range.map(|it| moved(it.start)..moved(it.end));
    error
}

/// White space is verbatim: a prompt ends as it is written.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(false)
        .lstrip_blocks(false)
        .build()
        .expect("the usual delimiters are valid")
}

fn environment(syntax: SyntaxConfig) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_debug(false);
    // It prints everything that is in scope.
    environment.remove_global("debug");
    environment
}

/// The bytes between the braces if the source is one `{{ expression }}`.
fn only_expression(source: &str, tree: &Stmt<'_>) -> Option<Range<usize>> {
    let Stmt::Template(template) = tree else {
        return None;
    };
    let [Stmt::EmitExpr(_)] = template.children.as_slice() else {
        return None;
    };
    let inner = source.strip_prefix("{{")?.strip_suffix("}}")?;
    // White space control, as in `{{- x -}}`, has nothing to act on here.
    let head = usize::from(inner.starts_with(['-', '+']));
    let tail = usize::from(inner[head..].ends_with(['-', '+']));
    Some(2 + head..source.len() - 2 - tail)
}

fn syntax_error(error: &Error, source: &str) -> TemplateError {
    let range = error.range().and_then(|it| clipped(it, source));
    TemplateError {
        message: message(error),
        range,
        hint: None,
    }
}

/// A range inside `source`, on character borders.
fn clipped(range: Range<usize>, source: &str) -> Option<Range<usize>> {
    let end = range.end.min(source.len());
    let range = range.start.min(end)..end;
    source.get(range.clone()).map(|_| range)
}

/// The engine's words without its template names.
fn message(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    let distance = |it: &&&str| strsim::damerau_levenshtein(it, name);
    let nearest = known.iter().min_by_key(distance)?;
    let limit = (name.chars().count() / 3).max(1);
    (distance(&nearest) <= limit).then(|| format!("did you mean `{}`?", shown(nearest)))
}

#[cfg(test)]
mod tests;
