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

    use super::super::{Fields, forbidden};
    use super::{Fault, Faults, Row};

    /// Cells of a file: a few bytes can stand for any number of equal ones.
    const MAX_CELLS: usize = 1 << 26;

    /// Bytes of a file when its columns are unpacked.
    const MAX_UNPACKED_BYTES: usize = 4 << 30;

    /// Reads all rows; faults go to `faults`.
    pub(in super::super) fn rows(bytes: &[u8], faults: &mut Faults) -> Vec<Row> {
        rows_within(bytes, MAX_CELLS, faults)
    }

    /// The rows of a file of at most `max_cells`.
    fn rows_within(bytes: &[u8], max_cells: usize, faults: &mut Faults) -> Vec<Row> {
        // The decoder can panic on a hostile file; that is a fault of the file.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut reader = ParquetReader::new(Cursor::new(bytes.to_vec()));
            let metadata = reader.get_metadata()?;
            let groups = &metadata.row_groups;
            let sum = |of: &dyn Fn(usize) -> usize| {
                (0..groups.len()).map(of).fold(0, usize::saturating_add)
            };
            let n_cells = sum(&|it| groups[it].num_rows().saturating_mul(groups[it].n_columns()));
            let n_bytes = sum(&|it| groups[it].total_byte_size());
            if max_cells < n_cells || MAX_UNPACKED_BYTES < n_bytes {
                return Ok(Err(Fault::TooMuch { n_cells, n_bytes }));
            }
            reader.finish().map(Ok)
        }));
        let frame = match decoded {
            Ok(Ok(Ok(frame))) => frame,
            Ok(Ok(Err(fault))) => {
                faults.add(None, None, fault);
                return Vec::new();
            }
            Ok(Err(error)) => {
                faults.add(
                    None,
                    None,
                    Fault::NotParquet {
                        reason: error.to_string(),
                    },
                );
                return Vec::new();
            }
            Err(_) => {
                let reason = "its decoding failed".to_owned();
                faults.add(None, None, Fault::NotParquet { reason });
                return Vec::new();
            }
        };
        for column in frame.columns().iter().filter(|it| !is_plain(it.dtype())) {
            let (name, dtype) = (column.name().to_string(), column.dtype().to_string());
            faults.add(None, None, Fault::UnsupportedType { name, dtype });
        }
        if faults.found.is_empty() {
            converted(&frame, faults)
        } else {
            Vec::new()
        }
    }

    fn is_plain(dtype: &DataType) -> bool {
        match dtype {
            DataType::List(inner) => is_plain(inner),
            DataType::String | DataType::Boolean | DataType::Null => true,
            other => other.is_integer() || other.is_float(),
        }
    }

    fn converted(frame: &DataFrame, faults: &mut Faults) -> Vec<Row> {
        let mut rows = Vec::with_capacity(frame.height());
        for index in 0..frame.height() {
            let mut fields = Fields::new();
            for column in frame.columns() {
                let value = column.get(index).map_or(Ok(Value::Null), |it| json(&it));
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

    fn json(value: &AnyValue<'_>) -> Result<Value, Fault> {
        Ok(match value {
            AnyValue::Null => Value::Null,
            AnyValue::Boolean(value) => Value::Bool(*value),
            AnyValue::String(text) => text_value(text)?,
            AnyValue::StringOwned(text) => text_value(text)?,
            AnyValue::Float32(value) => float(f64::from(*value), value.to_string())?,
            AnyValue::Float64(value) => float(*value, value.to_string())?,
            AnyValue::List(series) => Value::Array(
                series
                    .iter()
                    .map(|it| json(&it))
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

    fn text_value(text: &str) -> Result<Value, Fault> {
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
            assert_eq!(rows_within(&bytes, 100_000, &mut faults).len(), 100_000);
            assert_eq!(faults.found, []);
            assert!(rows_within(&bytes, 99_999, &mut faults).is_empty());
            assert!(matches!(
                faults.found[0].fault,
                Fault::TooMuch {
                    n_cells: 100_000,
                    ..
                }
            ));
        }

        /// Whatever the footer says, where a file tells what it holds: rows or a fault.
        ///
        /// The pages before it are not damaged here: of three bytes in a thousand polars 0.55
        /// takes a length that no machine has, and ends the process.
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
