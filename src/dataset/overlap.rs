//! Rows that a few-shot pool shares with the dataset.
//!
//! An example that also stands among the shots is answered by copying; its score
//! says nothing. Rows count as equal if all fields that both files have are equal
//! after Unicode normalization, case folding and collapsing of white space.

use std::collections::HashMap;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::{Dataset, Digest, Fields};

/// A row of the dataset that is also in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Index into the dataset's rows.
    pub row_index: usize,
    /// Index into the pool's rows.
    pub pool_index: usize,
    /// Line of the row in the dataset's file.
    pub line: usize,
    /// Line of the row in the pool's file.
    pub pool_line: usize,
}

/// Returns every pair of equal rows, in the order of the dataset, then the pool.
///
/// `ignored` names columns that do not count, such as ids. A row of which every
/// counted field is empty equals nothing. Empty if the files share no column.
pub fn overlap(dataset: &Dataset, pool: &Dataset, ignored: &[&str]) -> Vec<Overlap> {
    let is_shared =
        |name: &&String| pool.columns.contains(name) && !ignored.contains(&name.as_str());
    let mut shared: Vec<&String> = dataset.columns.iter().filter(is_shared).collect();
    shared.sort_unstable();
    let mut places: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (pool_index, row) in pool.rows.iter().enumerate() {
        if let Some(content) = content(&row.fields(), &shared) {
            places.entry(content).or_default().push(pool_index);
        }
    }
    let mut found = Vec::new();
    for (row_index, row) in dataset.rows.iter().enumerate() {
        let equal = content(&row.fields(), &shared).and_then(|it| places.get(&it));
        found.extend(equal.into_iter().flatten().map(|&pool_index| Overlap {
            row_index,
            pool_index,
            line: row.source_line,
            pool_line: pool.rows[pool_index].source_line,
        }));
    }
    found
}

/// Digest of the normalized texts of some fields; none if all are empty.
fn content(fields: &Fields, names: &[&String]) -> Option<Digest> {
    let text = |name: &&String| match fields.get(name.as_str()) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => normalized(text),
        Some(other) => normalized(&other.to_string()),
    };
    let texts: Vec<String> = names.iter().map(text).collect();
    if texts.iter().all(String::is_empty) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for text in &texts {
        hasher
            .update(&(text.len() as u64).to_le_bytes())
            .update(text.as_bytes());
    }
    Some(*hasher.finalize().as_bytes())
}

/// NFKC, case folded, words joined by single spaces.
fn normalized(text: &str) -> String {
    let composed: String = text.nfkc().collect();
    // Up and down again folds what lower case alone keeps apart, such as `ß` and `SS`.
    let folded: String = composed.to_uppercase().to_lowercase().nfkc().collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Format, parse};
    use super::*;

    fn dataset(text: &str) -> Dataset {
        parse(Path::new("x.csv"), Format::Csv, text.as_bytes()).unwrap()
    }

    #[test]
    fn spelling_does_not_hide_an_overlap() {
        // Fullwidth letters, a decomposed é, sharp s, a line break, another id, other columns.
        let data = dataset("id,en,fr,page\n1,Save,x,1\n2,\"Straße\n Café\",ＯＫ,2\n");
        let pool = dataset("fr,id,en\nok,9,STRASSE cafe\u{301}\n");
        let expected = Overlap {
            row_index: 1,
            pool_index: 0,
            line: 3,
            pool_line: 2,
        };
        assert_eq!(overlap(&data, &pool, &["id"]), [expected]);
    }

    #[test]
    fn ids_and_labels_count_unless_ignored() {
        let (data, pool) = (dataset("id,en\n1,Save\n"), dataset("id,en\n2,Save\n"));
        assert_eq!(overlap(&data, &pool, &[]), []);
        assert_eq!(overlap(&data, &pool, &["id"]).len(), 1);
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        let (data, pool) = (dataset("a,b\nab,c\n"), dataset("a,b\na,bc\n"));
        assert_eq!(overlap(&data, &pool, &[]), []);
    }

    #[test]
    fn files_without_a_common_column_do_not_overlap() {
        assert_eq!(overlap(&dataset("a\n1\n"), &dataset("b\n1\n"), &[]), []);
    }

    #[test]
    fn one_planted_row_is_found_among_many() {
        use std::fmt::Write;
        let mut text = "q\n".to_owned();
        for index in 0..20_000 {
            writeln!(text, "question {index}").unwrap();
        }
        let found = overlap(
            &dataset(&text),
            &dataset("q\nother\nQuestion  17777\n"),
            &[],
        );
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].pool_line), (17_779, 3));
    }
}
