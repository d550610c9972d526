//! Parquet, where the build has it: plain columns to JSON values.
//!
//! Texts, integers, floats, booleans and lists of them; nulls become JSON null.
//! A float keeps the shortest digits that give it back; NaN and infinities are
//! refused. Everything else (dates, structs, binary) is refused by name.

use super::{Fault, Faults, Row};

/// Reads all rows; faults go to `faults`.
#[cfg(not(feature = "tables"))]
pub(super) fn rows(_bytes: &[u8], faults: &mut Faults) -> Vec<Row> {
    faults.add(None, None, Fault::ParquetNotBuilt);
    Vec::new()
}

#[cfg(feature = "tables")]
pub(super) use reader::rows;

#[cfg(feature = "tables")]
mod reader {
    use std::io::Cursor;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use polars::prelude::{AnyValue, DataFrame, DataType, ParquetReader, SerReader};
    use serde_json::{Number, Value};

    use crate::parquet::{self, Limits, ParquetError};

    use super::super::{Fields, forbidden};
    use super::{Fault, Faults, Row};

    /// How much a file may unpack to, and how long its texts may be together once they stand in
    /// cells: a long one in a dictionary takes four bytes wherever it is repeated.
    const LIMITS: Limits = Limits {
        n_cells: 1 << 26,
        n_bytes: 4 << 30,
    };

    /// Reads all rows; faults go to `faults`.
    pub(in super::super) fn rows(bytes: &[u8], faults: &mut Faults) -> Vec<Row> {
        rows_within(bytes, LIMITS, faults)
    }

    /// The rows of a file that keeps to `limits`.
    fn rows_within(bytes: &[u8], limits: Limits, faults: &mut Faults) -> Vec<Row> {
        let frame = match decoded(bytes, limits) {
            Ok(frame) => frame,
            Err(fault) => {
                faults.add(None, None, fault);
                return Vec::new();
            }
        };
        for column in frame.columns().iter().filter(|it| !is_plain(it.dtype())) {
            let (name, dtype) = (column.name().to_string(), column.dtype().to_string());
            faults.add(None, None, Fault::UnsupportedType { name, dtype });
        }
        if faults.found.is_empty() {
            converted(&frame, limits, faults)
        } else {
            Vec::new()
        }
    }

    fn decoded(bytes: &[u8], limits: Limits) -> Result<DataFrame, Fault> {
        parquet::check(bytes, limits).map_err(|err| match err {
            ParquetError::Damaged { reason } => Fault::NotParquet { reason },
            ParquetError::TooMuch { n_cells, n_bytes } => Fault::TooMuch { n_cells, n_bytes },
        })?;
        // The decoder can panic on a hostile file; that is a fault of the file.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            ParquetReader::new(Cursor::new(bytes.to_vec())).finish()
        }));
        let reason = match decoded {
            Ok(Ok(frame)) => return Ok(frame),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its decoding failed".to_owned(),
        };
        Err(Fault::NotParquet { reason })
    }

    fn is_plain(dtype: &DataType) -> bool {
        match dtype {
            DataType::List(inner) => is_plain(inner),
            DataType::String | DataType::Boolean | DataType::Null => true,
            other => other.is_integer() || other.is_float(),
        }
    }

    fn converted(frame: &DataFrame, limits: Limits, faults: &mut Faults) -> Vec<Row> {
        let mut left = Left {
            n_bytes: limits.n_bytes,
            limits,
        };
        let mut rows = Vec::with_capacity(frame.height());
        for index in 0..frame.height() {
            let mut fields = Fields::new();
            for column in frame.columns() {
                let value = column
                    .get(index)
                    .map_or(Ok(Value::Null), |it| json(&it, &mut left));
                match value {
                    Ok(value) => drop(fields.insert(column.name().to_string(), value)),
                    Err(fault) => faults.add(Some(index + 1), None, fault),
                }
            }
            if faults.is_full() {
                break;
            }
            rows.push(Row::new(&fields, index + 1));
        }
        rows
    }

    /// Bytes of text that there is still room for.
    struct Left {
        n_bytes: u64,
        limits: Limits,
    }

    impl Left {
        fn take(&mut self, text: &str) -> Result<(), Fault> {
            match self.n_bytes.checked_sub(text.len() as u64) {
                Some(left) => {
                    self.n_bytes = left;
                    Ok(())
                }
                None => Err(Fault::TooMuchText {
                    n_bytes: self.limits.n_bytes,
                }),
            }
        }
    }

    fn json(value: &AnyValue<'_>, left: &mut Left) -> Result<Value, Fault> {
        Ok(match value {
            AnyValue::Null => Value::Null,
            AnyValue::Boolean(value) => Value::Bool(*value),
            AnyValue::String(text) => text_value(text, left)?,
            AnyValue::StringOwned(text) => text_value(text, left)?,
            AnyValue::Float32(value) => float(f64::from(*value), value.to_string())?,
            AnyValue::Float64(value) => float(*value, value.to_string())?,
            AnyValue::List(series) => Value::Array(
                series
                    .iter()
                    .map(|it| json(&it, left))
                    .collect::<Result<_, _>>()?,
            ),
            // Only integers are left. Not by their text: it can have separators.
            other => match other.extract::<i128>() {
                Some(integer) => Value::Number(Number::from_string_unchecked(integer.to_string())),
                None => {
                    return Err(Fault::NumberTooLarge {
                        number: other.to_string(),
                    });
                }
            },
        })
    }

    fn text_value(text: &str, left: &mut Left) -> Result<Value, Fault> {
        left.take(text)?;
        match forbidden(text) {
            Some((_, character)) => Err(Fault::ForbiddenCharacter { character }),
            None => Ok(Value::String(text.to_owned())),
        }
    }

    /// A float by its shortest digits; whole numbers keep a `.0`.
    fn float(value: f64, mut digits: String) -> Result<Value, Fault> {
        if !value.is_finite() {
            return Err(Fault::NumberTooLarge { number: digits });
        }
        if !digits.contains(['.', 'e']) {
            digits.push_str(".0");
        }
        Ok(Value::Number(Number::from_string_unchecked(digits)))
    }

    #[cfg(test)]
    mod tests {
        use polars::df;
        use polars::prelude::{NamedFrom, ParquetWriter, Series};

        use super::*;

        fn written(mut frame: DataFrame) -> Vec<u8> {
            let mut bytes = Vec::new();
            ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
            bytes
        }

        #[test]
        fn plain_types_become_json() {
            let lists = Series::new(
                "refs".into(),
                [
                    Series::new("".into(), ["x", "y"]),
                    Series::new("".into(), [""; 0]),
                ],
            );
            let mut frame = df!(
                "text" => [Some("0870"), None],
                "count" => [i64::MAX, -1],
                "share" => [0.1_f64, 2.0],
                "small" => [0.1_f32, 2.5],
                "yes" => [true, false],
            )
            .unwrap();
            frame.with_column(lists.into()).unwrap();
            let mut faults = Faults::default();
            let rows = rows(&written(frame), &mut faults);
            assert_eq!(faults.found, []);
            let json = |index: usize| serde_json::to_string(&rows[index].fields()).unwrap();
            assert_eq!(
                json(0),
                r#"{"text":"0870","count":9223372036854775807,"share":0.1,"small":0.1,"yes":true,"refs":["x","y"]}"#
            );
            assert_eq!(
                json(1),
                r#"{"text":null,"count":-1,"share":2.0,"small":2.5,"yes":false,"refs":[]}"#
            );
            assert_eq!(rows[1].source_line, 2);
        }

        /// A file of a few hundred bytes may claim any number of equal cells.
        #[test]
        fn a_file_that_unpacks_to_too_much_is_refused() {
            let bytes = written(df!("x" => vec![true; 100_000]).unwrap());
            assert!(bytes.len() < 1_000, "{}", bytes.len());
            let mut faults = Faults::default();
            let within = |n_cells| Limits { n_cells, ..LIMITS };
            assert_eq!(
                rows_within(&bytes, within(100_000), &mut faults).len(),
                100_000
            );
            assert_eq!(faults.found, []);
            assert!(rows_within(&bytes, within(99_999), &mut faults).is_empty());
            assert!(matches!(
                faults.found[0].fault,
                Fault::TooMuch {
                    n_cells: 100_000,
                    ..
                }
            ));
        }

        /// A long text in a dictionary takes a few bits wherever it is repeated.
        #[test]
        fn texts_that_are_repeated_without_end_are_refused() {
            let text = "x".repeat(10_000);
            let bytes = written(df!("x" => vec![text.as_str(); 1_000]).unwrap());
            assert!(bytes.len() < 30_000, "{}", bytes.len());
            let within = |n_bytes| Limits { n_bytes, ..LIMITS };
            let mut faults = Faults::default();
            let rows = rows_within(&bytes, within(10_000_000), &mut faults);
            assert_eq!((rows.len(), &faults.found[..]), (1_000, &[][..]));
            rows_within(&bytes, within(9_999_999), &mut faults);
            assert_eq!(
                faults.found[0].to_string(),
                "line 1000: its texts are longer than 9999999 bytes together, which is more than \
                 is read at once"
            );
        }

        /// Whatever the footer says, where a file tells what it holds: rows or a fault. Pages
        /// are damaged in `tests/integration/damaged_parquet.rs`.
        #[test]
        fn a_damaged_footer_is_read_or_refused() {
            let frame = df!("text" => ["a", "bb"], "n" => [1_i64, 2], "x" => [0.5, 1.5]).unwrap();
            let bytes = written(frame);
            let length = bytes.len() - 8;
            let footer = u32::from_le_bytes(bytes[length..length + 4].try_into().unwrap());
            for at in length - footer as usize..bytes.len() {
                for change in [0xff, 1, 0x80] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= change;
                    let mut faults = Faults::default();
                    let rows = rows(&damaged, &mut faults);
                    assert!(rows.is_empty() || faults.found.is_empty(), "byte {at}");
                }
            }
            for n in 0..bytes.len() {
                let mut faults = Faults::default();
                assert!(rows(&bytes[..n], &mut faults).is_empty(), "cut at {n}");
                assert_eq!(faults.found.len(), 1);
            }
        }

        #[test]
        fn what_has_no_json_form_is_refused() {
            let mut faults = Faults::default();
            rows(&written(df!("x" => [f64::NAN, 1.0]).unwrap()), &mut faults);
            assert_eq!(
                faults.found[0].to_string(),
                "line 1: number `NaN` is too large"
            );
            let mut faults = Faults::default();
            rows(b"PAR1 but not really PAR1", &mut faults);
            assert!(matches!(faults.found[0].fault, Fault::NotParquet { .. }));
        }
    }
}
