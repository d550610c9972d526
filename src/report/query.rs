//! The answer to a query: as a table for people, as CSV, as JSON.
//!
//! CSV goes into spreadsheets, where a text that begins like a formula would be run: such a
//! text gets an apostrophe in front, as the Open Worldwide Application Security Project
//! recommends. JSON and the Parquet files keep every text as it is.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};

use crate::query::{Answer, Cell};

use super::Style;
use super::escape::{document, line};
use super::number::counted;

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Rows that a table for people shows.
const MAX_ROWS: usize = 1_000;

/// A table with borders; numbers on the right, texts on one line each.
///
/// At most 1,000 rows are shown, and the rest is counted.
pub fn text(answer: &Answer, style: Style) -> String {
    if answer.rows.is_empty() {
        return format!("no rows ({})\n", answer.columns.join(", "));
    }
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(style.width).unwrap_or(u16::MAX))
        .set_header(answer.columns.iter().map(|it| line(it)));
    for row in answer.rows.iter().take(MAX_ROWS) {
        table.add_row(row.iter().map(shown));
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        let is_number = |it: &Vec<Cell>| !matches!(it[i], Cell::Text(_));
        if answer.rows.iter().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let more = answer.rows.len().saturating_sub(MAX_ROWS);
    let rest = if more == 0 {
        String::new()
    } else {
        format!(
            "… and {}; --csv and --json give all of them\n",
            counted(more, "more row")
        )
    };
    format!("{table}\n{rest}")
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Null => "–".to_owned(),
        Cell::Count(it) => it.to_string(),
        Cell::Number(it) => significant(*it),
        Cell::Text(it) => line(it),
    }
}

/// Six significant digits, without zeros at the end.
fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-5..15).contains(&magnitude) {
        return format!("{value:.5e}");
    }
    let digits = usize::try_from(5 - magnitude).unwrap_or(0);
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// RFC 4180 with a header; nothing is an empty cell, an empty text is `""`.
pub fn csv(answer: &Answer) -> String {
    let header: Vec<String> = answer.columns.iter().map(|it| csv_text(it)).collect();
    let mut out = header.join(",") + "\r\n";
    for row in &answer.rows {
        let cells: Vec<String> = row.iter().map(csv_cell).collect();
        out += &cells.join(",");
        out += "\r\n";
    }
    out
}

fn csv_cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Count(it) => it.to_string(),
        Cell::Number(it) => it.to_string(),
        Cell::Text(it) => csv_text(it),
    }
}

fn csv_text(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let apostrophe = if is_formula { "'" } else { "" };
    if !text.is_empty() && !is_formula && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
}

/// Columns and rows; an infinite number, which JSON lacks, is the text `Infinity` or `-Infinity`.
pub fn json(answer: &Answer) -> String {
    let cell = |it: &Cell| match it {
        Cell::Null => Value::Null,
        Cell::Count(it) => json!(it),
        Cell::Number(it) if *it == f64::INFINITY => json!("Infinity"),
        Cell::Number(it) if *it == f64::NEG_INFINITY => json!("-Infinity"),
        Cell::Number(it) => json!(it),
        Cell::Text(it) => json!(it),
    };
    let rows: Vec<Vec<Value>> = answer
        .rows
        .iter()
        .map(|row| row.iter().map(cell).collect())
        .collect();
    let value = json!({"version": JSON_VERSION, "columns": answer.columns, "rows": rows});
    document(&value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn answer() -> Answer {
        let text = |it: &str| Cell::Text(it.to_owned());
        Answer {
            columns: vec!["variant".to_owned(), "acc".to_owned(), "n".to_owned()],
            rows: vec![
                vec![text("bare"), Cell::Number(0.812_345_678), Cell::Count(64)],
                vec![text("=1+1\u{1b}[31m\n,\"q\""), Cell::Null, Cell::Count(-3)],
                vec![text(""), Cell::Number(f64::NEG_INFINITY), Cell::Null],
            ],
        }
    }

    const PLAIN: Style = Style {
        color: false,
        width: 80,
    };

    #[test]
    fn an_answer_is_a_table() {
        insta::assert_snapshot!(text(&answer(), PLAIN));
    }

    #[test]
    fn an_answer_is_csv() {
        assert_eq!(
            csv(&answer()),
            "variant,acc,n\r\nbare,0.812345678,64\r\n\
             \"'=1+1\u{1b}[31m\n,\"\"q\"\"\",,-3\r\n\"\",-inf,\r\n"
        );
    }

    #[test]
    fn an_answer_is_json() {
        let value: Value = serde_json::from_str(&json(&answer())).unwrap();
        assert_eq!(value["rows"][1][0], "=1+1\u{1b}[31m\n,\"q\"");
        assert_eq!(value["rows"][2][1], "-Infinity");
        assert_eq!(value["rows"][1][1], Value::Null);
    }

    #[test]
    fn no_rows_is_said() {
        let answer = Answer {
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: Vec::new(),
        };
        assert_eq!(text(&answer, PLAIN), "no rows (a, b)\n");
    }

    #[test]
    fn numbers_keep_six_digits() {
        // Six significant digits of each, zeros at the end dropped.
        let table = [
            (0.0, "0"),
            (1.0, "1"),
            (100.0, "100"),
            (1_234_567.8, "1234568"),
            (0.812_345_678, "0.812346"),
            (-12.5, "-12.5"),
            (1.5e-7, "1.50000e-7"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in table {
            assert_eq!(significant(value), expected);
        }
    }

    proptest! {
        /// Another reader of CSV gets back what was written, but for the apostrophes.
        #[test]
        fn csv_is_read_back(texts in proptest::collection::vec(any::<String>(), 1..20)) {
            let answer = Answer {
                columns: vec!["text".to_owned()],
                rows: texts.iter().map(|it| vec![Cell::Text(it.clone())]).collect(),
            };
            let written = csv(&answer);
            let mut reader = ::csv::Reader::from_reader(written.as_bytes());
            for (record, text) in reader.records().zip(&texts) {
                let record = record.unwrap();
                let read = &record[0];
                let is_formula = |it: &str| it.starts_with(['=', '+', '-', '@', '\t', '\r']);
                assert!(!is_formula(read));
                if is_formula(text) {
                    assert_eq!(read, format!("'{text}"));
                } else {
                    assert_eq!(read, text);
                }
            }
        }
    }
}
