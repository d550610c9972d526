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

#[cfg(test)]
mod tests {
    use crate::experiment::testing::{message, spec};

    #[test]
    fn a_date_may_stand_with_or_without_quotes() {
        let date = |text: &str| {
            spec(&format!("[experiment]\nname = 'x'\ndate = {text}\n"))
                .experiment
                .date
        };
        assert_eq!(date("'2024-07-26'").unwrap().to_string(), "2024-07-26");
        assert_eq!(date("'2024-07-26'"), date("2024-07-26"));
    }

    #[test]
    fn the_experiment_parses_or_says_why_not() {
        let table = [
            (
                "name = 'a'\nseed = 18446744073709551615",
                "`18446744073709551615` does not fit a 64-bit whole number",
            ),
            (
                "name = 'a'\nseed = -1",
                "expected a whole number from 0 up for `seed`, got -1",
            ),
            ("name = 'A'", "`name`: `A` is not a plain lowercase name"),
            ("name = 2024", "expected a string for `name`, got 2024"),
            ("nmae = 'a'", "unknown key `nmae` in `[experiment]`"),
            (
                "name = 'a'\nmargin = -0.1",
                "`margin`: expected a finite number, 0 or more, got -0.1",
            ),
            ("name = 'a'\ncontrol = 'bare'\nmargin = 0", ""),
            (
                "name = 'a'\ndate = 2024-07-26T10:00:00Z",
                "`date`: expected a day such as \"2024-07-26\", got `2024-07-26T10:00:00Z`",
            ),
            (
                "name = 'a'\ndate = '2023-02-29'",
                "`date`: expected a day such as \"2024-07-26\", got `2023-02-29`",
            ),
        ];
        for (rest, expected) in table {
            assert_eq!(
                message(&format!("[experiment]\n{rest}\n")),
                expected,
                "{rest}"
            );
        }
        assert_eq!(spec("").experiment.seed, 0, "the default");
    }
}
