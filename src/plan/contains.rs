//! The texts that `contains` looks for, which may differ by example.

use crate::dataset::{Dataset, Fields};
use crate::experiment::{Diagnostics, MetricOptions, MetricSpec, TemplateText};
use crate::template::Template;

use super::template_check;

/// What one example's generation must and must not contain; all lists must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainsTexts {
    /// Each of them must be in it.
    pub all: Vec<String>,
    /// One of them must be in it; no condition if empty.
    pub any: Vec<String>,
    /// None of them may be in it.
    pub none: Vec<String>,
}

/// The templates behind one `contains`; `None` if it looks for the target.
#[derive(Debug)]
pub(super) struct ContainsTemplates {
    all: Vec<(TemplateText, Template)>,
    any: Vec<(TemplateText, Template)>,
    none: Vec<(TemplateText, Template)>,
}

impl ContainsTemplates {
    /// Compiles the texts of `metric`, if it is a `contains` that names any.
    pub(super) fn compile(
        metric: &MetricSpec,
        dataset: &Dataset,
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        let MetricOptions::Contains {
            value,
            all,
            any,
            none,
            ..
        } = &metric.options
        else {
            return None;
        };
        let mut list = |texts: Vec<&TemplateText>| -> Vec<(TemplateText, Template)> {
            let compiled = texts.into_iter().filter_map(|text| {
                let template = template_check::compile(text, dataset, &[], problems)?;
                Some((text.clone(), template))
            });
            compiled.collect()
        };
        let templates = Self {
            all: list(value.iter().chain(all).collect()),
            any: list(any.iter().collect()),
            none: list(none.iter().collect()),
        };
        let is_empty =
            templates.all.is_empty() && templates.any.is_empty() && templates.none.is_empty();
        (!is_empty).then_some(templates)
    }

    /// Renders them on every row, to find what fails before the run.
    pub(super) fn try_rows(&self, dataset: &Dataset, rows: &[usize], problems: &mut Diagnostics) {
        for (text, template) in self.all.iter().chain(&self.any).chain(&self.none) {
            let rows = rows.iter().map(|it| &dataset.rows[*it]);
            let rows = rows.map(|it| (it.source_line, it.fields()));
            template_check::try_rows(text, template, dataset, rows, problems);
        }
    }

    /// The texts for one row, on which they were tried before.
    pub(super) fn texts(&self, fields: &Fields) -> ContainsTexts {
        let render = |list: &[(TemplateText, Template)]| {
            list.iter()
                .filter_map(|it| it.1.render(fields).ok())
                .collect()
        };
        ContainsTexts {
            all: render(&self.all),
            any: render(&self.any),
            none: render(&self.none),
        }
    }
}
