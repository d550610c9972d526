//! Which fields a template reads, and where it names them.
//!
//! Walks minijinja's syntax tree instead of asking for its undeclared variables:
//! those come without places and miss some (the text in `{{ text[:10] }}`). A name
//! that `{% set %}`, `{% for %}`, `{% with %}` or a macro binds is no field; one
//! that is set inside an `{% if %}` counts as bound after it, and if it turns out
//! not to be, rendering says so.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Spanned, Stmt};

/// A field that a template reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name of the column.
    pub name: String,
    /// Byte ranges of the name in the source, in order; at least one.
    pub ranges: Vec<Range<usize>>,
    /// True if the template says what to do without it (`is defined`, `default`).
    pub is_optional: bool,
}

/// Something a template may not do, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What was written, e.g. `include`.
    pub(super) statement: &'static str,
    /// Byte range in the source.
    pub(super) range: Range<usize>,
}

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct Findings<'a> {
    /// By first use.
    pub(super) fields: Vec<Field>,
    /// Statements that would read another file.
    pub(super) refusals: Vec<Refusal>,
    scopes: Vec<HashSet<&'a str>>,
    globals: BTreeSet<String>,
    is_guarded: bool,
}

/// Walks a whole template; `globals` are functions that may be called by name.
pub(super) fn find<'a>(template: &Stmt<'a>, globals: BTreeSet<String>) -> Findings<'a> {
    let scopes = vec![HashSet::from(["self"])];
    let mut findings = Findings {
        scopes,
        globals,
        ..Findings::default()
    };
    findings.statement(template);
    findings
}

/// The bytes of a span.
pub(super) fn bytes(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

impl<'a> Findings<'a> {
    fn bind(&mut self, target: &Expr<'a>) {
        match target {
            Expr::Var(name) => {
                self.scopes
                    .last_mut()
                    .expect("the outermost scope stays")
                    .insert(name.id);
            }
            Expr::List(list) => list.items.iter().for_each(|it| self.bind(it)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|it| self.bind(it)),
            // `{% set ns.x = 1 %}` reads `ns`.
            other => self.expression(other),
        }
    }

    /// Walks statements inside a scope of their own, where `names` are bound.
    fn scoped(&mut self, names: &[&'a str], walk: impl FnOnce(&mut Self)) {
        self.scopes.push(names.iter().copied().collect());
        walk(self);
        self.scopes.pop();
    }

    fn body(&mut self, statements: &[Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn refuse(&mut self, statement: &'static str, span: Span) {
        self.refusals.push(Refusal {
            statement,
            range: bytes(span),
        });
    }

    fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(it) => self.body(&it.children),
            Stmt::EmitExpr(it) => self.expression(&it.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::ForLoop(it) => {
                self.expression(&it.iter);
                self.scoped(&["loop"], |inner| {
                    inner.bind(&it.target);
                    inner.optional(it.filter_expr.as_ref());
                    inner.body(&it.body);
                });
                self.scoped(&[], |inner| inner.body(&it.else_body));
            }
            Stmt::IfCond(it) => {
                self.expression(&it.expr);
                self.body(&it.true_body);
                self.body(&it.false_body);
            }
            Stmt::WithBlock(it) => self.scoped(&[], |inner| {
                for (target, value) in &it.assignments {
                    inner.expression(value);
                    inner.bind(target);
                }
                inner.body(&it.body);
            }),
            Stmt::Set(it) => {
                self.expression(&it.expr);
                self.bind(&it.target);
            }
            Stmt::SetBlock(it) => {
                self.optional(it.filter.as_ref());
                self.body(&it.body);
                self.bind(&it.target);
            }
            Stmt::AutoEscape(it) => {
                self.expression(&it.enabled);
                self.body(&it.body);
            }
            Stmt::FilterBlock(it) => {
                self.expression(&it.filter);
                self.body(&it.body);
            }
            Stmt::Block(it) => self.scoped(&["super"], |inner| inner.body(&it.body)),
            Stmt::Macro(it) => {
                self.scopes
                    .last_mut()
                    .expect("the outermost scope stays")
                    .insert(it.name);
                self.macro_body(it);
            }
            Stmt::CallBlock(it) => {
                self.call(&it.call);
                self.macro_body(&it.macro_decl);
            }
            Stmt::Do(it) => self.call(&it.call),
            Stmt::Extends(it) => self.refuse("extends", it.span()),
            Stmt::Include(it) => self.refuse("include", it.span()),
            Stmt::Import(it) => self.refuse("import", it.span()),
            Stmt::FromImport(it) => self.refuse("from", it.span()),
        }
    }

    fn macro_body(&mut self, definition: &Spanned<Macro<'a>>) {
        self.scoped(&["caller"], |inner| {
            definition.args.iter().for_each(|it| inner.bind(it));
            definition
                .defaults
                .iter()
                .for_each(|it| inner.expression(it));
            inner.body(&definition.body);
        });
    }

    fn optional(&mut self, expression: Option<&Expr<'a>>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'a>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(it)
                | CallArg::Kwarg(_, it)
                | CallArg::PosSplat(it)
                | CallArg::KwargSplat(it) => self.expression(it),
            }
        }
    }

    fn call(&mut self, call: &Spanned<Call<'a>>) {
        match &call.expr {
            Expr::Var(function) if self.globals.contains(function.id) => {}
            other => self.expression(other),
        }
        self.arguments(&call.args);
    }

    /// Walks the operand of a test or filter that is made for missing fields.
    fn guarded(&mut self, operand: &Expr<'a>) {
        let outer = std::mem::replace(&mut self.is_guarded, matches!(operand, Expr::Var(_)));
        self.expression(operand);
        self.is_guarded = outer;
    }

    fn expression(&mut self, expression: &Expr<'a>) {
        match expression {
            Expr::Var(it) => self.name(it.id, it.span()),
            Expr::Const(_) => {}
            Expr::Slice(it) => {
                self.expression(&it.expr);
                for bound in [&it.start, &it.stop, &it.step] {
                    self.optional(bound.as_ref());
                }
            }
            Expr::UnaryOp(it) => self.expression(&it.expr),
            Expr::BinOp(it) => {
                self.expression(&it.left);
                self.expression(&it.right);
            }
            Expr::Compare(it) => {
                self.expression(&it.expr);
                it.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(it) => {
                self.expression(&it.test_expr);
                self.expression(&it.true_expr);
                self.optional(it.false_expr.as_ref());
            }
            Expr::Filter(it) => {
                match &it.expr {
                    Some(operand) if matches!(it.name, "default" | "d") => self.guarded(operand),
                    operand => self.optional(operand.as_ref()),
                }
                self.arguments(&it.args);
            }
            Expr::Test(it) => {
                if matches!(it.name, "defined" | "undefined") {
                    self.guarded(&it.expr);
                } else {
                    self.expression(&it.expr);
                }
                self.arguments(&it.args);
            }
            Expr::GetAttr(it) => self.expression(&it.expr),
            Expr::GetItem(it) => {
                self.expression(&it.expr);
                self.expression(&it.subscript_expr);
            }
            Expr::Call(it) => self.call(it),
            Expr::List(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(it) => it.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(it) => {
                it.keys
                    .iter()
                    .chain(&it.values)
                    .for_each(|item| self.expression(item));
            }
        }
    }

    fn name(&mut self, name: &'a str, span: Span) {
        if self.scopes.iter().any(|it| it.contains(name)) {
            return;
        }
        let is_guarded = self.is_guarded;
        if let Some(field) = self.fields.iter_mut().find(|it| it.name == name) {
            field.ranges.push(bytes(span));
            field.is_optional |= is_guarded;
        } else {
            let (name, ranges) = (name.to_owned(), vec![bytes(span)]);
            self.fields.push(Field {
                name,
                ranges,
                is_optional: is_guarded,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Template;

    /// Names of the fields; a `?` marks optional ones. Checks every range.
    fn names(source: &str) -> Vec<String> {
        let template = Template::compile(source).unwrap();
        let name = |field: &super::Field| {
            assert!(!field.ranges.is_empty());
            for range in &field.ranges {
                assert_eq!(source[range.clone()], field.name, "{source}");
            }
            format!("{}{}", field.name, if field.is_optional { "?" } else { "" })
        };
        template.fields().iter().map(name).collect()
    }

    #[test]
    fn fields_are_the_names_that_nothing_else_binds() {
        let table: &[(&str, &[&str])] = &[
            ("no names, 'x' {# y #} {{ 'z' }} { w }", &[]),
            ("{% raw %}{{ x }}{% endraw %}{{ y }}", &["y"]),
            ("é {{ b }}{{ a.b }}{{ a['c'] }}", &["b", "a"]),
            ("{{ text[:n] }}", &["text", "n"]),
            ("{{ x | replace(y, z) }}", &["x", "y", "z"]),
            ("{{ f(key=v) }}", &["f", "v"]),
            (
                "{% for x in xs if x != y %}{{ x }}{{ loop.index }}{% else %}{{ z }}{% endfor %}{{ x }}",
                &["xs", "y", "z", "x"],
            ),
            ("{% set a, b = c %}{{ a }}{{ b }}", &["c"]),
            (
                "{% if c %}{% set a = 1 %}{% else %}{% set a = 2 %}{% endif %}{{ a }}",
                &["c"],
            ),
            ("{% set x = x %}{{ x }}", &["x"]),
            ("{% with a = b %}{{ a }}{% endwith %}{{ a }}", &["b", "a"]),
            (
                "{% macro m(a, b=c) %}{{ a }}{{ b }}{{ d }}{% endmacro %}{{ m(e) }}",
                &["c", "d", "e"],
            ),
            (
                "{% filter replace(a, b) %}{{ c }}{% endfilter %}",
                &["a", "b", "c"],
            ),
            ("{% set t %}{{ a }}{% endset %}{{ t }}", &["a"]),
            ("{{ range(n) }}{{ range }}", &["n", "range"]),
            (
                "{{ a is defined }}{{ b | default('') }}{{ c.d is defined }}{{ e }}",
                &["a?", "b?", "c", "e"],
            ),
            ("{{ debug }}", &["debug"]),
            (
                "{{ [a, (b, c), {d: e}] }}{{ -f }}{{ g if h else i }}{{ 1 < j < k }}",
                &["a", "b", "c", "d", "e", "f", "h", "g", "i", "j", "k"],
            ),
            ("{{- a -}}\r\n{%- if b -%}{%- endif +%}", &["a", "b"]),
        ];
        for (source, expected) in table {
            assert_eq!(names(source), *expected, "{source}");
        }
    }

    #[test]
    fn every_use_has_its_range() {
        let template = Template::compile("{{ x }} x {{ y ~ x }}").unwrap();
        assert_eq!(template.fields()[0].ranges, [3..4, 17..18]);
    }
}
