//! Tests of [`super::check`] on the files of `tests/fixtures/parquet`, which pyarrow wrote.

use std::path::{Path, PathBuf};

use super::*;

const LIMITS: Limits = Limits {
    n_cells: 1 << 26,
    n_bytes: 4 << 30,
};

/// The files, by name.
fn files() -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let paths = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let mut files: Vec<(String, Vec<u8>)> = paths
        .filter(|it| it.path().extension().is_some_and(|it| it == "parquet"))
        .map(|it| {
            let name = it.file_name().into_string().unwrap();
            (name, std::fs::read(it.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(10 < files.len());
    files
}

fn named(name: &str) -> Vec<u8> {
    let found = files().into_iter().find(|it| it.0 == name);
    found.unwrap().1
}

#[test]
fn what_others_write_passes() {
    let (deltas, others): (Vec<_>, Vec<_>) = files()
        .into_iter()
        .partition(|it| it.0.starts_with("delta"));
    for (name, bytes) in others {
        assert_eq!(check(&bytes, LIMITS), Ok(()), "{name}");
    }
    // They say inside a page how much there is.
    assert_eq!(deltas.len(), 2);
    for (name, bytes) in deltas {
        let err = check(&bytes, LIMITS).unwrap_err().to_string();
        let expected = "column 1 of row group 1: page 1: the encoding DELTA_LENGTH_BYTE_ARRAY is \
                        not read, only PLAIN, ";
        assert!(err.starts_with(expected), "{name}: {err}");
    }
}

#[test]
fn the_limits_are_those_of_the_footer() {
    let bytes = named("plain.parquet");
    // Eight rows of five columns and 15 list elements.
    let exact = |n_cells| check(&bytes, Limits { n_cells, ..LIMITS });
    assert_eq!(exact(8 * 5 + 15), Ok(()));
    let Err(ParquetError::TooMuch { n_cells, n_bytes }) = exact(8 * 5 + 14) else {
        panic!("{:?}", exact(54))
    };
    assert_eq!(n_cells, 55);
    assert!((300..1_000).contains(&n_bytes), "{n_bytes}");
    let tight = Limits {
        n_bytes: n_bytes - 1,
        ..LIMITS
    };
    assert!(matches!(
        check(&bytes, tight),
        Err(ParquetError::TooMuch { .. })
    ));
}

/// An i32 as the next field of a struct.
fn int(bytes: &mut Vec<u8>, value: i64) {
    field(bytes, 0x15, value);
}

/// A number in a field, whose first byte is its type and how many fields it is behind the last.
fn field(bytes: &mut Vec<u8>, first: u8, value: i64) {
    bytes.push(first);
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while 0x80 <= rest {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// The header of a page with these sizes and counts.
fn header(kind: i64, unpacked: i64, packed: i64, n_values: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [kind, unpacked, packed] {
        int(&mut bytes, value);
    }
    // A struct, so many fields after the third.
    let id = if kind == page::DICTIONARY {
        page::OF_DICTIONARY
    } else {
        page::V1
    };
    bytes.push((id as u8 - 3) << 4 | 0x0c);
    int(&mut bytes, n_values);
    int(&mut bytes, 0);
    bytes.extend([0, 0]);
    bytes
}

/// A column of 10 values and 100 unpacked bytes.
fn of_pages(codec: i64, pages: &[(Vec<u8>, usize)]) -> Result<(), String> {
    let bytes: Vec<u8> = pages
        .iter()
        .flat_map(|(header, n)| [&header[..], &vec![0; *n]].concat())
        .collect();
    let chunk = Chunk {
        bytes: &bytes,
        codec,
        n_values: 10,
        unpacked_bytes: 100,
    };
    chunk.check()
}

#[test]
fn pages_that_claim_too_much_are_refused() {
    const SNAPPY: i64 = 1;
    let data = |unpacked, packed, n| header(page::DATA, unpacked, packed, n);
    let dictionary = |unpacked, packed, n| header(page::DICTIONARY, unpacked, packed, n);
    assert_eq!(of_pages(SNAPPY, &[(data(100, 40, 10), 40)]), Ok(()));
    let with_dictionary = [(dictionary(40, 20, 10), 20), (data(60, 30, 10), 30)];
    assert_eq!(of_pages(SNAPPY, &with_dictionary), Ok(()));
    for (pages, expected) in [
        (
            vec![(data(101, 40, 10), 40)],
            "would unpack to 101 bytes, more than its column with 100",
        ),
        (
            vec![(data(2_147_483_647, 40, 10), 40)],
            "would unpack to 2147483647 bytes",
        ),
        (vec![(data(-1, 40, 10), 40)], "is said to have -1 bytes"),
        (
            vec![(data(100, 41, 10), 40)],
            "41 bytes, where the column has 40 left",
        ),
        (vec![(data(100, -7, 10), 40)], "is said to have -7 bytes"),
        (
            vec![(data(100, 40, 11), 40)],
            "have 11 values, but the footer says 10",
        ),
        (
            vec![(data(100, 40, 2_147_483_647), 40)],
            "have 2147483647 values",
        ),
        (
            vec![(data(100, 40, -1), 40)],
            "-1 in its header is no count",
        ),
        (
            vec![(data(100, 40, 9), 40)],
            "page 2: its header ends too early",
        ),
        (
            vec![(dictionary(40, 20, 11), 20)],
            "11 values do not fit in 40 bytes",
        ),
        (
            vec![with_dictionary[0].clone(), with_dictionary[0].clone()],
            "page 2: a second dictionary",
        ),
        (vec![(header(1, 10, 10, 10), 10)], "a kind that is not read"),
    ] {
        let err = of_pages(SNAPPY, &pages).unwrap_err();
        assert!(err.contains(expected), "{err}");
    }
    let err = of_pages(UNCOMPRESSED, &[(data(100, 40, 10), 40)]).unwrap_err();
    assert!(err.contains("not compressed"), "{err}");
}

/// A file of one column with one page; its footer says how many children each element of the
/// schema has, how many rows file and row group have, and how many bytes the column.
fn file_of(children: &[i64], [n_rows, of_group]: [i64; 2], n_packed: i64) -> Vec<u8> {
    let page = [header(page::DATA, 100, 100, 10), vec![0; 100]].concat();
    let mut footer = vec![0x29, (children.len() as u8) << 4 | 0x0c];
    for n in children {
        footer.extend([0x48, 0x01, b'x']);
        int(&mut footer, *n);
        footer.push(0);
    }
    field(&mut footer, 0x16, n_rows);
    // One row group with one column, whose metadata are its third field.
    footer.extend([0x19, 0x1c, 0x19, 0x1c, 0x3c]);
    field(&mut footer, 0x45, UNCOMPRESSED);
    for value in [10, 100, n_packed] {
        field(&mut footer, 0x16, value);
    }
    // Behind the magic.
    field(&mut footer, 0x26, 4);
    footer.extend([0, 0]);
    field(&mut footer, 0x26, of_group);
    footer.extend([0, 0]);
    let length = (footer.len() as u32).to_le_bytes();
    [MAGIC, &page[..], &footer, &length, MAGIC].concat()
}

#[test]
fn footers_that_contradict_themselves_are_refused() {
    let page = header(page::DATA, 100, 100, 10).len() + 100;
    let n_packed = i64::try_from(page).unwrap();
    let tree = [1, 0];
    assert_eq!(check(&file_of(&tree, [10, 10], n_packed), LIMITS), Ok(()));
    for (children, rows, n_packed, expected) in [
        (&[0, 0][..], [10, 10], n_packed, "more than one root"),
        (&[-1], [10, 10], n_packed, "a negative number of columns"),
        (&[2, 0], [10, 10], n_packed, "its schema ends too early"),
        (&tree, [11, 10], n_packed, "has 11 rows, but its row groups"),
        (&tree, [-1, -1], n_packed, "a negative number of rows"),
        (&tree, [10, 10], 10_000, "bytes 4 to 10004 are not there"),
        (&tree, [10, 10], -1, "-1 is no number of bytes"),
    ] {
        let err = check(&file_of(children, rows, n_packed), LIMITS).unwrap_err();
        assert!(err.to_string().contains(expected), "{err}");
    }
}

/// Levels stand in front of the values of a page of the second version.
#[test]
fn levels_that_are_longer_than_their_page_are_refused() {
    let page = |n_levels| {
        let mut bytes = Vec::new();
        for value in [page::DATA_V2, 100, 40] {
            int(&mut bytes, value);
        }
        bytes.push((page::V2 as u8 - 3) << 4 | 0x0c);
        for value in [10, 0, 10, 0, n_levels, 1] {
            int(&mut bytes, value);
        }
        bytes.extend([0, 0]);
        (bytes, 40)
    };
    assert_eq!(of_pages(1, &[page(39)]), Ok(()));
    let err = of_pages(1, &[page(40)]).unwrap_err();
    assert!(err.contains("levels of 41 bytes in 40"), "{err}");
}

/// A footer may agree with a page that no bytes stand behind.
#[test]
fn a_page_does_not_unpack_from_nothing() {
    let bytes = [header(page::DATA, 1 << 30, 40, 10), vec![0; 40]].concat();
    let chunk = Chunk {
        bytes: &bytes,
        codec: 1,
        n_values: 10,
        unpacked_bytes: 4 << 30,
    };
    let err = chunk.check().unwrap_err();
    assert!(
        err.contains("40 bytes do not unpack to 1073741824"),
        "{err}"
    );
}

/// Whatever is flipped: an answer, in time and memory that the file has room for.
#[test]
fn any_damage_is_passed_or_refused() {
    for (name, bytes) in files() {
        let mut n_refused = 0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                n_refused += usize::from(check(&damaged, LIMITS).is_err());
            }
            assert!(check(&bytes[..at], LIMITS).is_err(), "{name} cut at {at}");
        }
        assert!(bytes.len() < n_refused, "{name}: {n_refused}");
    }
}

/// Deep enough to end the process by its stack in a decoder that goes down with calls.
#[test]
fn columns_that_nest_without_end_are_refused() {
    // Schema elements of one child each: 4: binary "x", 5: i32 = 1.
    let element = [0x48, 0x01, b'x', 0x15, 0x02, 0x00];
    let n = 10_000_u32;
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    footer.extend([(n & 0x7f) as u8 | 0x80, (n >> 7) as u8]);
    footer.extend(element.repeat(n as usize));
    footer.extend([0x16, 0x00, 0x19, 0x0c, 0x00]);
    let length = (footer.len() as u32).to_le_bytes();
    let bytes = [MAGIC, &footer[..], &length, MAGIC].concat();
    let err = check(&bytes, LIMITS).unwrap_err();
    assert!(err.to_string().contains("nest more than 16 deep"), "{err}");
}
