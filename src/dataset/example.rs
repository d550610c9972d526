//! Rows become examples: an id each, perhaps a cluster, perhaps a limit.
//!
//! Ids decide which examples are compared across runs, so they come from a column
//! or from the content of the row, never from its place in the file.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::error::shown;
use super::{Dataset, Digest, Row, hex};

/// A row with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Unique in its dataset.
    pub id: String,
    /// Index into [`Dataset::rows`].
    pub row_index: usize,
    /// What the example belongs to, if the experiment names a cluster column.
    pub cluster: Option<String>,
}

impl Example {
    /// Returns the row of `dataset` that this example names.
    ///
    /// `dataset` must be the one the example was made from.
    pub fn row<'a>(&self, dataset: &'a Dataset) -> &'a Row {
        &dataset.rows[self.row_index]
    }
}

/// Which examples a limit keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// A fixed random subset.
    #[default]
    Random,
    /// The first ones of the file.
    First,
}

/// Why rows could not be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExamplesError {
    /// No row has the column.
    #[error("{role} column `{}` is not in `{dataset}`, which has: {}", shown(.column), listed(.known))]
    UnknownColumn {
        /// `id` or `cluster`.
        role: &'static str,
        /// The column that was asked for.
        column: String,
        /// The file.
        dataset: String,
        /// The columns that it has.
        known: Vec<String>,
    },
    /// Rows whose value cannot be a name.
    #[error(
        "{role} column `{}` is missing, empty, or neither text nor a number in {n_rows} rows of `{dataset}`, on lines {}",
        shown(.column),
        joined(.lines)
    )]
    NotAName {
        /// `id` or `cluster`.
        role: &'static str,
        /// The column.
        column: String,
        /// The file.
        dataset: String,
        /// All such rows.
        n_rows: usize,
        /// Lines of the first 10.
        lines: Vec<usize>,
    },
    /// Ids that several rows have.
    #[error(
        "the ids in column `{}` of `{dataset}` are not unique{}: {}",
        shown(.column),
        if .duplicates.len() < *.n_ids { format!(", {n_ids} stand in several rows") } else { String::new() },
        .duplicates.iter().map(|it| format!("`{}` on lines {}", shown(&it.id), joined(&it.lines))).collect::<Vec<_>>().join("; ")
    )]
    DuplicateIds {
        /// The column.
        column: String,
        /// The file.
        dataset: String,
        /// All such ids.
        n_ids: usize,
        /// The first 10, in file order.
        duplicates: Vec<DuplicateId>,
    },
}

/// An id and the rows that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateId {
    /// The id.
    pub id: String,
    /// The lines of the first 10 of its rows.
    pub lines: Vec<usize>,
}

impl ExamplesError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownColumn { column, known, .. } => {
                let distance = |name: &String| strsim::damerau_levenshtein(name, column);
                let nearest = known.iter().min_by_key(|name| distance(name))?;
                let limit = (column.chars().count() / 3).max(1);
                (distance(nearest) <= limit).then(|| format!("did you mean `{nearest}`?"))
            }
            Self::NotAName { role: "id", .. } | Self::DuplicateIds { .. } => {
                Some("without an id column, rows are named by their content".to_owned())
            }
            Self::NotAName { .. } => None,
        }
    }
}

/// How many rows or ids an error lists.
const SHOWN: usize = 10;

/// Names the rows of `dataset`, in file order.
///
/// Ids come from `id_column` (texts, or numbers as written), or are the first 16
/// hex digits of the row's digest, repeated rows getting `-2`, `-3`.
///
/// # Errors
///
/// [`ExamplesError`] if a column does not exist, a value is missing, empty or
/// neither text nor number, or an id is not unique.
pub fn examples(
    dataset: &Dataset,
    id_column: Option<&str>,
    cluster_column: Option<&str>,
) -> Result<Vec<Example>, ExamplesError> {
    let clusters = match cluster_column {
        Some(column) => names(dataset, "cluster", column)?
            .into_iter()
            .map(Some)
            .collect(),
        None => vec![None; dataset.rows.len()],
    };
    let ids = match id_column {
        Some(column) => unique_ids(dataset, column)?,
        None => content_ids(&dataset.rows),
    };
    let named = ids.into_iter().zip(clusters).enumerate();
    Ok(named
        .map(|(row_index, (id, cluster))| Example {
            id,
            row_index,
            cluster,
        })
        .collect())
}

/// Keeps at least `n` examples, or all if there are fewer; in the order given.
///
/// Random: those with the smallest BLAKE3 of seed and id, so the subset does not
/// depend on the order of the file and lies inside that of every larger `n`.
/// Clusters are kept whole, in the order of the BLAKE3 of seed and cluster, until
/// `n` is reached; only then can there be more than `n`. First: the same by place
/// in the file, clusters by their first example.
pub fn limit(examples: Vec<Example>, n: usize, order: Order, seed: u64) -> Vec<Example> {
    let unit = |example: &Example| {
        example
            .cluster
            .clone()
            .unwrap_or_else(|| example.id.clone())
    };
    let mut sizes: HashMap<String, usize> = HashMap::new();
    let mut units = Vec::new();
    for example in &examples {
        let size = sizes.entry(unit(example)).or_default();
        if *size == 0 {
            units.push(unit(example));
        }
        *size += 1;
    }
    if order == Order::Random {
        units.sort_by_cached_key(|name| (seeded_hash(seed, name), name.clone()));
    }
    let mut kept = HashSet::new();
    let mut n_kept = 0;
    for name in units {
        if n <= n_kept {
            break;
        }
        n_kept += sizes[&name];
        kept.insert(name);
    }
    examples
        .into_iter()
        .filter(|it| kept.contains(&unit(it)))
        .collect()
}

/// BLAKE3 of the seed as 8 bytes, little-endian, then the name.
fn seeded_hash(seed: u64, name: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The values of a column as names, one per row.
fn names(
    dataset: &Dataset,
    role: &'static str,
    column: &str,
) -> Result<Vec<String>, ExamplesError> {
    let file = dataset.path.display().to_string();
    if !dataset.columns.iter().any(|it| it == column) {
        return Err(ExamplesError::UnknownColumn {
            role,
            column: column.to_owned(),
            dataset: file,
            known: dataset.columns.clone(),
        });
    }
    let name = |row: &Row| match row.field(column)? {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        Value::Number(number) => Some(number.as_str().to_owned()),
        _ => None,
    };
    let named: Vec<Option<String>> = dataset.rows.iter().map(name).collect();
    let without = || {
        dataset
            .rows
            .iter()
            .zip(&named)
            .filter(|(_, name)| name.is_none())
    };
    let n_rows = without().count();
    if 0 < n_rows {
        return Err(ExamplesError::NotAName {
            role,
            column: column.to_owned(),
            dataset: file,
            n_rows,
            lines: without()
                .map(|(row, _)| row.source_line)
                .take(SHOWN)
                .collect(),
        });
    }
    Ok(named.into_iter().flatten().collect())
}

fn unique_ids(dataset: &Dataset, column: &str) -> Result<Vec<String>, ExamplesError> {
    let ids = names(dataset, "id", column)?;
    let mut lines: HashMap<&str, Vec<usize>> = HashMap::new();
    for (id, row) in ids.iter().zip(&dataset.rows) {
        lines.entry(id).or_default().push(row.source_line);
    }
    let mut repeated: Vec<(&str, Vec<usize>)> = lines
        .into_iter()
        .filter(|(_, lines)| 1 < lines.len())
        .collect();
    if repeated.is_empty() {
        return Ok(ids);
    }
    repeated.sort_by_key(|(_, lines)| lines[0]);
    let duplicate = |(id, lines): &(&str, Vec<usize>)| DuplicateId {
        id: (*id).to_owned(),
        lines: lines.iter().copied().take(SHOWN).collect(),
    };
    Err(ExamplesError::DuplicateIds {
        column: column.to_owned(),
        dataset: dataset.path.display().to_string(),
        n_ids: repeated.len(),
        duplicates: repeated.iter().take(SHOWN).map(duplicate).collect(),
    })
}

fn content_ids(rows: &[Row]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let id = |row: &Row| {
        let prefix = hex(&row.digest[..8]);
        let count = counts.entry(prefix.clone()).or_default();
        *count += 1;
        if *count == 1 {
            prefix
        } else {
            format!("{prefix}-{count}")
        }
    };
    rows.iter().map(id).collect()
}

fn listed(names: &[String]) -> String {
    names
        .iter()
        .map(|it| shown(it))
        .collect::<Vec<_>>()
        .join(", ")
}

fn joined(lines: &[usize]) -> String {
    lines
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::{Format, parse};
    use super::*;

    fn dataset(text: &str) -> Dataset {
        parse(Path::new("data/x.jsonl"), Format::Jsonl, text.as_bytes()).unwrap()
    }

    #[test]
    fn ids_are_texts_or_numbers_as_written() {
        let data = dataset("{\"id\":\"a\"}\n{\"id\":7}\n{\"id\":1.10}");
        let ids: Vec<String> = examples(&data, Some("id"), None)
            .unwrap()
            .into_iter()
            .map(|it| it.id)
            .collect();
        assert_eq!(ids, ["a", "7", "1.10"]);
    }

    #[test]
    fn repeated_rows_are_numbered() {
        let data = dataset("{\"a\":1}\n{\"a\":2}\n{\"a\":1}\n{\"a\":1}");
        let found = examples(&data, None, None).unwrap();
        let first = hex(&data.rows[0].digest[..8]);
        assert_eq!(first.len(), 16);
        assert_eq!(found[0].id, first);
        assert_eq!(
            (&found[2].id, &found[3].id),
            (&format!("{first}-2"), &format!("{first}-3"))
        );
        assert_eq!(found[2].row(&data).source_line, 3);
    }

    #[test]
    fn bad_ids_are_listed_with_their_lines() {
        let table = [
            (
                "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}",
                "the ids in column `id` of `data/x.jsonl` are not unique: `a` on lines 1, 3",
            ),
            (
                "{\"id\":\"a\"}\n{\"id\":\" \"}\n{\"x\":1}\n{\"id\":null}",
                "id column `id` is missing, empty, or neither text nor a number in 3 rows of \
                 `data/x.jsonl`, on lines 2, 3, 4",
            ),
            (
                "{\"ids\":\"a\"}",
                "id column `id` is not in `data/x.jsonl`, which has: ids",
            ),
        ];
        for (text, expected) in table {
            let error = examples(&dataset(text), Some("id"), None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let error = examples(&dataset("{\"ids\":\"a\"}"), Some("id"), None).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean `ids`?"));
    }

    #[test]
    fn at_most_ten_duplicates_are_listed() {
        use std::fmt::Write;
        let mut text = String::new();
        for index in 0..24 {
            writeln!(text, "{{\"id\":{}}}", index % 12).unwrap();
        }
        match examples(&dataset(&text), Some("id"), None).unwrap_err() {
            ExamplesError::DuplicateIds {
                n_ids, duplicates, ..
            } => {
                assert_eq!((n_ids, duplicates.len()), (12, 10));
                assert_eq!(
                    duplicates[0],
                    DuplicateId {
                        id: "0".to_owned(),
                        lines: vec![1, 13]
                    }
                );
            }
            other => panic!("{other}"),
        }
    }

    /// Examples `e0`, `e1`, ... in clusters of the given sizes, interleaved.
    fn made(sizes: &[usize]) -> Vec<Example> {
        let mut clusters: Vec<(usize, usize)> = Vec::new();
        for (cluster, size) in sizes.iter().enumerate() {
            clusters.extend((0..*size).map(|turn| (turn, cluster)));
        }
        clusters.sort_unstable();
        let example = |(row_index, (_, cluster)): (usize, (usize, usize))| Example {
            id: format!("e{row_index}"),
            row_index,
            cluster: Some(format!("c{cluster}")),
        };
        clusters.into_iter().enumerate().map(example).collect()
    }

    fn without_clusters(n: usize) -> Vec<Example> {
        let example = |row_index| Example {
            id: format!("e{row_index}"),
            row_index,
            cluster: None,
        };
        (0..n).map(example).collect()
    }

    #[test]
    fn first_keeps_the_first_and_whole_clusters() {
        let kept = limit(without_clusters(5), 2, Order::First, 0);
        assert_eq!(kept, without_clusters(2));
        // c0 and c1 alternate; c0 alone has 3, so a limit of 2 keeps all 3 of c0.
        let kept = limit(made(&[3, 2]), 2, Order::First, 0);
        assert_eq!(
            kept.iter().map(|it| it.row_index).collect::<Vec<_>>(),
            [0, 2, 4]
        );
    }

    #[test]
    fn a_random_limit_depends_on_the_seed_alone() {
        let ids = |seed, examples| -> HashSet<String> {
            limit(examples, 10, Order::Random, seed)
                .into_iter()
                .map(|it| it.id)
                .collect()
        };
        let mut reversed = without_clusters(100);
        reversed.reverse();
        assert_eq!(ids(1, without_clusters(100)), ids(1, reversed));
        assert_ne!(ids(1, without_clusters(100)), ids(2, without_clusters(100)));
    }

    proptest! {
        #[test]
        fn a_limit_is_nested_in_every_larger_one(
            sizes in prop::collection::vec(1_usize..5, 1..12), small in 0_usize..30, more in 0_usize..10,
            seed: u64, clustered: bool, random: bool,
        ) {
            let n_examples: usize = sizes.iter().sum();
            let all = if clustered { made(&sizes) } else { without_clusters(n_examples) };
            let order = if random { Order::Random } else { Order::First };
            let few = limit(all.clone(), small, order, seed);
            let many = limit(all.clone(), small + more, order, seed);
            prop_assert!(few.iter().all(|it| many.contains(it)));
            prop_assert!(small.min(n_examples) <= few.len());
            prop_assert!(clustered || few.len() == small.min(n_examples));
            // Dataset order, and clusters are whole.
            prop_assert!(few.windows(2).all(|it| it[0].row_index < it[1].row_index));
            if clustered {
                for example in &all {
                    let is_kept = few.contains(example);
                    prop_assert_eq!(is_kept, few.iter().any(|it| it.cluster == example.cluster));
                }
            }
        }
    }
}
