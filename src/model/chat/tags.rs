//! Rewrites the one tag that transformers adds to Jinja.
//!
//! `{% generation %}...{% endgeneration %}` marks the assistant's text for training
//! masks and prints its body as it is, so it becomes `{% if true %}...{% endif %}`.

/// `source` with its generation tags rewritten; whitespace control stays.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        // The `%` of `{%}` begins the tag and does not end it.
        let Some(end) = tag[2..].find("%}").map(|it| it + 2) else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let name = inner
            .trim_start_matches(['-', '+'])
            .trim_end_matches(['-', '+'])
            .trim();
        let replacement = match name {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str("{%");
        if let Some(replacement) = replacement {
            out.push_str(&inner.replacen(name, replacement, 1));
            out.push_str("%}");
            rest = &tag[end + 2..];
        } else {
            rest = &tag[2..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_tags_change() {
        let table = [
            (
                "a{% generation %}b{% endgeneration %}",
                "a{% if true %}b{% endif %}",
            ),
            (
                "{%- generation -%}{%+endgeneration-%}",
                "{%- if true -%}{%+endif-%}",
            ),
            (
                "{% if add_generation_prompt %}{% endif %}",
                "{% if add_generation_prompt %}{% endif %}",
            ),
            ("{{ '{%' }}{% generation %}", "{{ '{%' }}{% if true %}"),
            ("{% for", "{% for"),
            ("{%}", "{%}"),
            ("{%}{% generation %}", "{%}{% if true %}"),
            ("{%%}{%%}", "{%%}{%%}"),
            ("", ""),
        ];
        for (source, expected) in table {
            assert_eq!(without_generation_tags(source), expected);
        }
    }
}
