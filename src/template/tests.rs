//! What a template promises about whole prompts.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

fn render(source: &str, json: &str) -> String {
    Template::compile(source)
        .unwrap()
        .render(&fields(json))
        .unwrap()
}

/// Templates are rendered on many threads.
#[test]
fn a_template_can_be_shared() {
    fn check<T: Send + Sync + Clone>(_: &T) {}
    check(&Template::compile("{{ x }}").unwrap());
    check(&Filter::compile("x").unwrap());
}

fn evaluate(source: &str, json: &str) -> Json {
    Template::compile(source)
        .unwrap()
        .evaluate(&fields(json))
        .unwrap()
}

fn failure(source: &str, json: &str) -> (TemplateError, String) {
    let error = match Template::compile(source) {
        Ok(template) => template.render(&fields(json)).unwrap_err(),
        Err(error) => error,
    };
    let place = error.range.clone().map_or("", |it| &source[it]).to_owned();
    (error, place)
}

#[test]
fn white_space_and_markup_are_verbatim() {
    let source = "  {% if true %}\n  <b>{{ x }}</b> \r\n{% endif %}\n\n";
    assert_eq!(
        render(source, r#"{"x":"a & b"}"#),
        "  \n  <b>a & b</b> \r\n\n\n"
    );
}

#[test]
fn data_are_never_parsed_again() {
    let data = r#"{"x":"{{ y }}{% for %}{# #}","y":"no"}"#;
    assert_eq!(render("{{ x }}", data), "{{ y }}{% for %}{# #}");
}

#[test]
fn numbers_print_as_in_the_data() {
    let table = [
        ("1.10", "1.10"),
        ("1.1", "1.1"),
        ("2.0", "2.0"),
        ("7", "7"),
        ("-0", "-0"),
        ("1e-7", "1e-7"),
        ("0.12345678901234567890", "0.12345678901234567890"),
        ("9007199254740993", "9007199254740993"),
        (
            "123456789012345678901234567890123456789012",
            "123456789012345678901234567890123456789012",
        ),
    ];
    for (number, expected) in table {
        assert_eq!(render("{{ x }}", &format!("{{\"x\":{number}}}")), expected);
        let value = evaluate("{{ x }}", &format!("{{\"x\":{number}}}"));
        assert_eq!(value.to_string(), expected);
    }
    // A number stays a number.
    assert_eq!(
        render("{{ x > 1.05 }} {{ x * 2 }} {{ x }}", r#"{"x":1.10}"#),
        "True 2.2 1.10"
    );
    assert_eq!(
        render(
            "{% for x in xs %}{{ x }};{% endfor %}",
            r#"{"xs":[1.50,2.0]}"#
        ),
        "1.50;2.0;"
    );
    // Written in two ways, neither can be told from the other.
    assert_eq!(
        render("{{ x }} {{ y }}", r#"{"x":1.10,"y":1.100}"#),
        "1.1 1.1"
    );
}

#[test]
fn other_values_print_as_in_python() {
    let data = r#"{"a":["x",1,null],"b":true,"c":null}"#;
    assert_eq!(
        render("{{ a }} {{ b }} {{ c }}", data),
        "['x', 1, None] True None"
    );
    assert_eq!(render("{{ a[0].upper() }}", data), "X");
}

#[test]
fn one_expression_keeps_its_type() {
    let data = r#"{"refs":["a","b"],"n":3,"yes":true,"no":null,"o":{"k":[1.5]},"t":"3"}"#;
    assert_eq!(evaluate("{{ refs }}", data), json!(["a", "b"]));
    assert_eq!(evaluate("{{- n -}}", data), json!(3));
    assert_eq!(evaluate("{{ yes }}", data), json!(true));
    assert_eq!(evaluate("{{ no }}", data), Json::Null);
    assert_eq!(evaluate("{{ o }}", data), json!({"k": [1.5]}));
    assert_eq!(evaluate("{{ (n + 1) * 2 }}", data), json!(8));
    assert_eq!(evaluate("{{ '}}' ~ t }}", data), json!("}}3"));
    assert_eq!(evaluate("{{ range(3) | list }}", data), json!([0, 1, 2]));
    assert_eq!(evaluate("{{ t }}", data), json!("3"));
    assert_eq!(evaluate("{{ value }}", r#"{"value":[1]}"#), json!([1]));
    // Not exactly one expression: text.
    assert_eq!(evaluate("{{ n }} ", data), json!("3 "));
    assert_eq!(evaluate("{{ n }}{{ n }}", data), json!("33"));
    assert_eq!(evaluate("n", data), json!("n"));
}

#[test]
fn a_missing_field_is_named_with_its_place() {
    let (error, place) = failure("Is {{ reveiw }} good?", r#"{"label":1,"review":"x"}"#);
    assert_eq!(
        error.message,
        "field `reveiw` is not defined, the example has: label, review"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `review`?"));
    assert_eq!(place, "reveiw");
    for source in [
        "{% if y %}{% endif %}",
        "{{ x ~ y }}",
        "{{ y.z }}",
        "{{ y | upper }}",
        "é{{ x }}{{ y }}",
    ] {
        let (error, place) = failure(source, r#"{"x":1}"#);
        assert_eq!(
            error.message, "field `y` is not defined, the example has: x",
            "{source}"
        );
        assert_eq!(place, "y", "{source}");
    }
    let template = Template::compile("{{ y }}").unwrap();
    assert_eq!(
        template.evaluate(&fields(r#"{"x":1}"#)).unwrap_err().range,
        Some(3..4)
    );
    assert_eq!(
        render("{{ y | default('none') }}{{ y is defined }}", r#"{"x":1}"#),
        "noneFalse"
    );
}

#[test]
fn an_undefined_attribute_points_at_the_expression() {
    let (error, place) = failure("{{ x.y }}", r#"{"x":{"z":1}}"#);
    assert!(error.message.starts_with("undefined value"), "{error}");
    assert_eq!(place, "x.y");
    let template = Template::compile("{{ 1 + x.y }}").unwrap();
    let error = template.evaluate(&fields(r#"{"x":{"z":1}}"#)).unwrap_err();
    assert_eq!(&template.source()[error.range.unwrap()], "1 + x.y");
}

#[test]
fn faulty_templates_say_where() {
    let table = [
        (
            "a {{ x",
            "syntax error: unexpected end of input, expected end of variable block",
            "x",
        ),
        (
            "a {{ x y }}",
            "syntax error: unexpected identifier, expected end of variable block",
            "y",
        ),
        (
            "{% endif %}",
            "syntax error: unknown statement endif",
            "endif",
        ),
        ("{{ x | nope }}", "there is no filter `nope`", "nope"),
        (
            "{% include 'x' %}",
            "a template cannot read another one (`include`)",
            "include 'x'",
        ),
        (
            "{% extends 'x' %}",
            "a template cannot read another one (`extends`)",
            "extends 'x'",
        ),
        (
            "{% import 'x' as y %}",
            "a template cannot read another one (`import`)",
            "import 'x' as y",
        ),
        (
            "{{ debug() }}",
            "unknown function: debug is unknown",
            "debug()",
        ),
        (
            "\u{FDD0}",
            "the character U+FDD0 is not allowed in a template",
            "\u{FDD0}",
        ),
    ];
    for (source, expected, expected_place) in table {
        let (error, place) = failure(source, r#"{"x":1}"#);
        assert_eq!(
            (error.message.as_str(), place.as_str()),
            (expected, expected_place),
            "{source}"
        );
    }
}

#[test]
fn filters_are_conditions() {
    let data = fields(r#"{"domain":"ui","score":1.10,"n":3}"#);
    let keeps = |source: &str| Filter::compile(source).unwrap().keeps(&data);
    assert_eq!(keeps("domain == 'ui'"), Ok(true));
    assert_eq!(keeps("domain in ['a', 'b'] or 1.1 < score"), Ok(false));
    assert_eq!(keeps("score == 1.1 and n >= 3"), Ok(true));
    let error = keeps("n").unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.range),
        ("expected true or false, got `3`", Some(0..1))
    );
    let error = keeps("n == 3 and domian").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `domain`?"));
    assert_eq!(error.range, Some(11..17));
    assert_eq!(
        Filter::compile("a == b").unwrap().fields()[1].ranges[0],
        5..6
    );
    for source in ["", "a }} {{ b", "a ==", "{{ a }}"] {
        let error = Filter::compile(source).unwrap_err();
        assert!(error.range.unwrap().end <= source.len(), "{source}");
    }
}

/// Work is paid by the size of template and data; see [`FUEL_PER_BYTE`].
#[test]
fn long_data_pass() {
    let words = "lorem ipsum ".repeat(100_000 / 12);
    let text =
        json!({ "x": words, "xs": vec![1; 20_000], "ys": words.split(' ').collect::<Vec<_>>() });
    for source in [
        "{{ x | replace('lorem', 'dolor sit amet') }}",
        "{{ x.replace('o', '0').upper() | trim | lower | title }}",
        "{{ x.split(' ') | join('\n') }}",
        "{{ x | tojson }}",
        "{{ xs | tojson }}",
        "{% for c in x | list %}{% if c != 'o' %}{{ c }}{% endif %}{% endfor %}",
        "{% for i in xs %}{{ loop.index }}: {{ i * 2 + 1 }}{% if not loop.last %}, {% endif %}{% endfor %}",
        "{% for y in ys %}- {{ y | upper }}{{ '\n' }}{% endfor %}",
        "{{ ys | sort | unique | join(' ') }}",
    ] {
        let template = Template::compile(source).unwrap();
        // Only the field in use, so that it pays for itself.
        let name = &template.fields()[0].name;
        let only: Fields = [(name.clone(), text[name].clone())].into_iter().collect();
        let result = template.render(&only);
        assert!(result.is_ok(), "{source}: {result:?}");
    }
}

/// Each of these once took gigabytes or minutes in some template engine.
/// It would print all that is in scope, and what is in scope changes.
#[test]
fn there_is_no_debug() {
    let template = Template::compile("{{ debug() }}").unwrap();
    assert!(template.render(&Fields::new()).is_err());
}

#[test]
fn hostile_templates_are_stopped_quickly() {
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    let doubling = "{% set n = namespace(x='a') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}";
    let sources = [
        doubling.to_owned(),
        "{{ range(100000) | join('a' * 10000) }}".to_owned(),
        format!("{{{{ {deep} }}}}"),
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"
            .to_owned(),
        "{{ 'a' * 100000000 }}".to_owned(),
        "{{ 'a\nb' | indent(100000000) }}".to_owned(),
        "{{ '%1000000000s' | format('x') }}".to_owned(),
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}".to_owned(),
        "{{ range(100000000) | list | length }}".to_owned(),
        "{% for i in range(10**9) %}{% endfor %}".to_owned(),
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}".to_owned(),
        "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = n.x + [n.x] %}{% endfor %}"
            .to_owned(),
    ];
    let started = Instant::now();
    for source in &sources {
        let (error, _) = failure(source, "{}");
        assert!(error.message.len() < 300, "{error}");
    }
    // Unoptimized, all of them take well under a second on one core.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(
        Template::compile("{{ 9**9**9**9 }}")
            .and_then(|it| it.render(&Fields::new()))
            .is_err()
    );
}

proptest! {
    /// Any source compiles or is refused with a range inside it.
    #[test]
    fn any_source_is_compiled_or_refused(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "-", " ", "x", ".", "|", "if", "for", "in", "set", "=", "(", ")", "'", "é", "endif",
        ]), 0..16)
    ) {
        let source = parts.concat();
        match Template::compile(&source) {
            Ok(template) => {
                for field in template.fields() {
                    prop_assert!(field.ranges.iter().all(|it| source[it.clone()] == field.name));
                }
                if let Err(error) = template.render(&fields(r#"{"x":"1"}"#)) {
                    prop_assert!(error.range.is_none_or(|it| source.get(it).is_some()));
                }
            }
            Err(error) => prop_assert!(error.range.is_none_or(|it| source.get(it).is_some())),
        }
    }

    /// Text goes through a template unchanged.
    #[test]
    fn a_field_is_rendered_byte_for_byte(text in "\\PC{0,20}", end in "[ \r\n\t]{0,3}") {
        let mut data = Fields::new();
        data.insert("x".to_owned(), Json::String(text.clone()));
        let rendered = Template::compile(&format!("{{{{ x }}}}{end}")).unwrap().render(&data).unwrap();
        prop_assert_eq!(rendered, format!("{text}{end}"));
    }
}

/// Long chains nest as deeply in a syntax tree as parentheses do.
#[test]
fn deep_templates_are_refused_and_nothing_overflows() {
    let n = 200_000;
    let sources = [
        format!("{{{{ x{} }}}}", ".a".repeat(n)),
        format!("{{{{ x{} }}}}", "[0]".repeat(n)),
        format!("{{{{ x{} }}}}", "|upper".repeat(n)),
        format!("{{{{ x{} }}}}", "()".repeat(n)),
        format!("{{{{ x{} }}}}", " + x".repeat(n)),
        format!("{{{{ x{} }}}}", " ~ x".repeat(n)),
        format!("{{{{ x{} }}}}", " and x".repeat(n)),
        format!("{{{{ x{} }}}}", " < x".repeat(n)),
        format!("{{{{ x{} }}}}", " is string".repeat(n)),
        format!("{{{{ {}x }}}}", "not ".repeat(n)),
        format!("{{{{ {}x }}}}", "-".repeat(n)),
        format!("{{{{ {}x }}}}", "x if x else ".repeat(n)),
        format!("{{{{ {}x }}}}", "[".repeat(n)),
        format!("{{{{ {}x }}}}", "{'a':".repeat(n)),
        "{% if x %}".repeat(n),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(n)),
        "{% for i in x %}".repeat(n),
        // A debug build of the lexer overflows on syntax errors beyond column 65,535.
        "{% raw %}".repeat(7_000),
        "{#".repeat(30_000),
    ];
    for source in &sources {
        let start: String = source.chars().take(20).collect();
        if let Ok(template) = Template::compile(source) {
            let result = template.render(&fields(r#"{"x":"1"}"#));
            assert!(result.is_err(), "{start}");
        }
        assert!(Filter::compile(source).is_err(), "{start}");
    }
}

/// Found by fuzzing: a range of the engine that ended before it began.
#[test]
fn a_place_never_ends_before_it_begins() {
    let source = "{% for in xs %}- {{ y | upper }}{% if not loop.last %}, {% endif %}{% endfor %}{{ x[23] }}";
    let data = fields(r#"{"x":"text","xs":["a"]}"#);
    let error = Template::compile(source)
        .and_then(|it| it.render(&data))
        .unwrap_err();
    assert!(source.get(error.range.unwrap()).is_some());
}

/// A loop over data of a megabyte nests a value as often as fuel allows.
#[test]
fn values_that_nest_without_end_are_stopped_before_the_stack_is() {
    let data = json!({ "t": "a".repeat(1_000_000) });
    let Json::Object(data) = data else {
        unreachable!("written as an object")
    };
    let nested = |change: &str, then: &str| {
        format!(
            "{{% set n = namespace(x=[], y=[]) %}}{{% for c in t %}}{{% set n.x = {change} %}}\
             {{% set n.y = n.x %}}{{% endfor %}}{then}"
        )
    };
    for change in [
        "[n.x]",
        "{'a': n.x}",
        "[[[[[[[[[[n.x]]]]]]]]]]",
        "n.x | batch(1)",
    ] {
        for then in ["", "{{ n.x }}", "{{ n.x == n.y }}", "{{ n.x | tojson }}"] {
            let source = nested(change, then);
            let template = Template::compile(&source).unwrap();
            let error = template.render(&data).unwrap_err();
            assert!(error.message.contains("far more work"), "{source}: {error}");
        }
        // As deep as the fuel reaches, printed and compared.
        let short: Fields = [("t".to_owned(), Json::from("a".repeat(2_000)))]
            .into_iter()
            .collect();
        for then in ["{{ n.x }}", "{{ n.x == n.y }}"] {
            let source = nested(change, then);
            Template::compile(&source).unwrap().render(&short).ok();
        }
    }
    let counted =
        "{% set n = namespace(x=0) %}{% for c in t %}{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}";
    let short: Fields = [("t".to_owned(), Json::from("a".repeat(9_000)))]
        .into_iter()
        .collect();
    let rendered = Template::compile(counted).unwrap().render(&short);
    assert_eq!(rendered.as_deref(), Ok("9000"));
}

#[test]
fn a_misspelt_filter_or_test_has_a_neighbour() {
    for (source, expected, hint) in [
        (
            "{{ x | uppper }}",
            "there is no filter `uppper`",
            Some("did you mean `upper`?"),
        ),
        ("{{ x | sha256 }}", "there is no filter `sha256`", None),
        (
            "{{ x is defned }}",
            "there is no test `defned`",
            Some("did you mean `defined`?"),
        ),
    ] {
        let error = Template::compile(source)
            .and_then(|it| it.render(&fields(r#"{"x":"1"}"#)))
            .unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            (expected, hint)
        );
        let range = error.range.unwrap();
        assert!(expected.contains(&source[range]), "{source}");
    }
}
