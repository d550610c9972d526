//! Template mistakes as diagnostics that point inside the template.

use crate::dataset::{Dataset, Fields};
use crate::experiment::{Diagnostic, Diagnostics, TemplateText};
use crate::template::{Field, Template, TemplateError};

/// Compiles a template and checks its fields against the dataset's columns.
///
/// `also` names fields that harness adds, e.g. `examples`.
pub(super) fn compile(
    text: &TemplateText,
    dataset: &Dataset,
    also: &[&str],
    problems: &mut Diagnostics,
) -> Option<Template> {
    match Template::compile(&text.text) {
        Ok(template) => {
            fields(text, template.fields(), dataset, also, problems);
            Some(template)
        }
        Err(err) => {
            problems.push(error(text, &err));
            None
        }
    }
}

/// A template error at its place.
pub(super) fn error(text: &TemplateText, err: &TemplateError) -> Diagnostic {
    let place = match &err.range {
        Some(range) => text.place_of(range.clone()),
        None => text.place.clone(),
    };
    let diagnostic = Diagnostic::error(err.message.clone()).at(&place, "");
    match &err.hint {
        Some(hint) => diagnostic.help(hint.clone()),
        None => diagnostic,
    }
}

/// Reports fields that no row of the dataset has.
pub(super) fn fields(
    text: &TemplateText,
    fields: &[Field],
    dataset: &Dataset,
    also: &[&str],
    problems: &mut Diagnostics,
) {
    for field in fields.iter().filter(|it| !it.is_optional) {
        let is_known = dataset.columns.contains(&field.name) || also.contains(&field.name.as_str());
        if is_known {
            continue;
        }
        let nearest = dataset
            .columns
            .iter()
            .map(|it| (strsim::damerau_levenshtein(it, &field.name), it))
            .min()
            .filter(|(distance, _)| *distance <= (field.name.chars().count() / 3).max(1));
        let label = match nearest {
            Some((_, name)) => format!("did you mean `{name}`?"),
            None => "not a column".to_owned(),
        };
        let place = text.place_of(field.ranges[0].clone());
        problems.push(
            Diagnostic::error(format!(
                "no row of `{}` has the field `{}`",
                dataset.path.display(),
                field.name
            ))
            .at(&place, label)
            .help(format!("it has: {}", dataset.columns.join(", "))),
        );
    }
}

/// Renders `template` on every row of `dataset` and reports the first one that fails.
pub(super) fn try_rows(
    text: &TemplateText,
    template: &Template,
    dataset: &Dataset,
    rows: impl Iterator<Item = (usize, Fields)>,
    problems: &mut Diagnostics,
) {
    let mut first = None;
    let (mut n_rows, mut n_failed) = (0, 0);
    for (line, fields) in rows {
        n_rows += 1;
        if let Err(err) = template.render(&fields) {
            n_failed += 1;
            first.get_or_insert((line, err));
        }
    }
    let Some((line, err)) = first else { return };
    let mut diagnostic = error(text, &err);
    let file = dataset.path.display();
    let rows = match n_failed {
        1 => format!("line {line} of `{file}`"),
        _ if n_failed == n_rows => format!("every row of `{file}`"),
        _ => format!("{n_failed} rows of `{file}`, first on line {line}"),
    };
    diagnostic.message = format!("the template fails on {rows}: {}", diagnostic.message);
    if err.hint.is_none() && n_failed < n_rows {
        diagnostic = diagnostic.help(
            "leave such rows out with `filter`, or say in the template what stands there \
             instead, with `default(...)` or `{% if ... is defined %}`",
        );
    }
    problems.push(diagnostic);
}
