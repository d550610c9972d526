//! `[experiment]`: the name, the seed, and what the variants are ranked by.

use super::diagnostic::Spanned;
use super::fields::Fields;
use super::tree::Value;
use super::value::{Date, NonNegative, Slug};

/// What the experiment is called and how its variants are ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// The folder of its runs.
    pub name: Slug,
    /// Seeds every draw: the limit, the shots, the generations.
    pub seed: u64,
    /// The metric as written, by its name in reports; see
    /// [`ExperimentSpec::primary`](super::ExperimentSpec::primary) for the default.
    pub primary: Option<Spanned<String>>,
    /// The variant against which differences are shown.
    pub control: Option<Spanned<String>>,
    /// What counts as unchanged for the primary metric, in its unit.
    pub margin: Option<NonNegative>,
    /// What `strftime_now` returns in chat templates.
    pub date: Option<Date>,
}

/// Reads the table.
pub(super) fn read(fields: Fields<'_>) -> Option<About> {
    let name = fields.required("name", fields.parsed("name"), "\"translate\"");
    let seed = fields.count::<u64>("seed", 0);
    let primary = fields.string("primary");
    let control = fields.string("control");
    let margin = fields.checked("margin");
    let date = date(fields);
    Some(About {
        name: name?.value,
        seed: seed.map_or(0, |it| it.value),
        primary,
        control,
        margin: margin.map(|it| it.value),
        date,
    })
}

/// A day, in quotes or as TOML writes one.
fn date(fields: Fields<'_>) -> Option<Date> {
    let node = fields.node("date")?;
    let Value::Datetime(written) = &node.value else {
        return fields.parsed("date").map(|it| it.value);
    };
    let date = written.to_string().parse();
    if let Err(error) = &date {
        fields.problems.error(
            &node.place,
            format!("`date`: {error}"),
            "leave the time of day out",
        );
    }
    date.ok()
}
