//! A table as plain columns, before it is Parquet and after.

use std::borrow::Cow;

/// Named columns of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct Table<'a> {
    /// What the table is called, which is its file's name without the ending.
    pub name: String,
    /// Rows in every column.
    pub n_rows: usize,
    /// The columns, in the order of the file.
    pub columns: Vec<Column<'a>>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column<'a> {
    /// Unique in its table.
    pub name: String,
    /// One entry per row.
    pub values: Values<'a>,
}

/// The cells of a column; `None` where there is nothing to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<'a> {
    /// Names, texts and ids.
    Text(Vec<Option<Cow<'a, str>>>),
    /// Counts and indices.
    Count(Vec<Option<i64>>),
    /// Numbers; may be infinite.
    Number(Vec<Option<f64>>),
    /// True or false.
    Claim(Vec<Option<bool>>),
}

impl Values<'_> {
    /// How many cells there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Count(cells) => cells.len(),
            Self::Number(cells) => cells.len(),
            Self::Claim(cells) => cells.len(),
        }
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type's name, for messages and for the description of a table.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Count(_) => "int64",
            Self::Number(_) => "float64",
            Self::Claim(_) => "boolean",
        }
    }
}

impl<'a> Column<'a> {
    /// A column of texts.
    pub(super) fn text<T: Into<Cow<'a, str>>>(
        name: &str,
        cells: impl Iterator<Item = Option<T>>,
    ) -> Self {
        let cells = cells.map(|it| it.map(Into::into));
        Self {
            name: name.to_owned(),
            values: Values::Text(cells.collect()),
        }
    }

    /// A column of counts; one beyond int64 is kept at the largest.
    pub(super) fn count(name: &str, cells: impl Iterator<Item = Option<usize>>) -> Self {
        let cells = cells.map(|it| it.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
        Self {
            name: name.to_owned(),
            values: Values::Count(cells.collect()),
        }
    }

    /// A column of numbers.
    pub(super) fn number(name: &str, cells: impl Iterator<Item = Option<f64>>) -> Self {
        Self {
            name: name.to_owned(),
            values: Values::Number(cells.collect()),
        }
    }

    /// A column of claims.
    pub(super) fn claim(name: &str, cells: impl Iterator<Item = Option<bool>>) -> Self {
        Self {
            name: name.to_owned(),
            values: Values::Claim(cells.collect()),
        }
    }
}

impl<'a> Table<'a> {
    /// A table of these columns, which have equal lengths.
    ///
    /// A name that is taken gets underscores: readers of Parquet refuse two equal names, and
    /// SQL tells no case apart, so `EN` after `en` becomes `EN_`. Columns of the contract come
    /// first and thus keep their names.
    pub(super) fn new(name: &str, mut columns: Vec<Column<'a>>) -> Self {
        let n_rows = columns.first().map_or(0, |it| it.values.len());
        debug_assert!(
            columns.iter().all(|it| it.values.len() == n_rows),
            "the columns of `{name}` have equal lengths"
        );
        let mut taken = std::collections::HashSet::new();
        for column in &mut columns {
            while !taken.insert(column.name.to_lowercase()) {
                column.name.push('_');
            }
        }
        Self {
            name: name.to_owned(),
            n_rows,
            columns,
        }
    }

    /// Name and type of every column, one per line; what a change of the schema shows up in.
    pub fn describe(&self) -> String {
        let line = |it: &Column<'_>| format!("{}: {}\n", it.name, it.values.type_name());
        self.columns.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_underscores() {
        let column = |name: &str| Column::text(name, std::iter::once(Some("x")));
        let names = ["en", "EN", "en_", "run"].map(column);
        let table = Table::new(
            "examples",
            [column("run")].into_iter().chain(names).collect(),
        );
        let names: Vec<&str> = table.columns.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["run", "en", "EN_", "en__", "run_"]);
    }
}
