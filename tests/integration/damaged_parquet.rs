//! Parquet files of which a byte was changed: read or refused, never the end of the process.
//!
//! What a decoder asks memory for cannot be caught when there is not enough, so the files are
//! read by a process of their own with little memory, which this test starts and watches. One
//! change to every byte in every test run; more with `HARNESS_FLIPS=8`, others with another
//! `HARNESS_FLIP_SEED`:
//!
//! ```text
//! HARNESS_FLIPS=8 HARNESS_FLIP_SEED=5 cargo test --release --test integration damaged_parquet
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::dataset::{self, Format};

/// Names the file that the process is to damage; set for the child alone.
const FILE: &str = "HARNESS_DAMAGED_FILE";

/// Address space of the child, in KiB: room for threads and small files.
const MAX_KIB: u64 = 3 << 20;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// The files that pyarrow wrote, one per encoding and compression.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let mut files: Vec<PathBuf> = entries
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == "parquet"))
        .collect();
    files.sort();
    assert!(10 < files.len());
    files
}

/// The eight rows are the same however they are written; the delta encodings are refused.
#[test]
fn every_encoding_and_compression_gives_the_same_rows() {
    let read = |path: &PathBuf| match dataset::read(path) {
        Ok(dataset) => dataset.rows,
        Err(errors) => panic!("{errors}"),
    };
    let (deltas, files): (Vec<PathBuf>, Vec<PathBuf>) = files()
        .into_iter()
        .partition(|it| it.to_str().unwrap().contains("/delta"));
    for path in deltas {
        let refused = dataset::read(&path).unwrap_err().to_string();
        assert!(refused.contains("DELTA_LENGTH_BYTE_ARRAY"), "{refused}");
    }
    let expected = read(&files[0]);
    assert_eq!(expected.len(), 8);
    let third = serde_json::to_string(&expected[2].fields()).unwrap();
    assert_eq!(
        third,
        r#"{"text":"row 2 of the text","n":-1,"small":2,"share":0.5,"yes":false,"refs":["a","a","b"]}"#
    );
    for path in &files[1..] {
        assert_eq!(read(path), expected, "{}", path.display());
    }
}

/// Decoders made room for 2 GiB and for 128 GiB at these, and the process ended.
#[test]
fn files_that_claim_what_no_bytes_stand_for_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/hostile");
    for (file, expected) in [
        (
            "huge-page",
            "column 1 of row group 1: page 1: it would unpack to 2147483647 bytes",
        ),
        ("huge-list", "its footer says more than it has bytes for"),
    ] {
        let refused = dataset::read(&folder.join(format!("{file}.parquet")));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(expected), "{file}: {refused}");
    }
}

/// The name is that of the test, since the child is this program with this one test to run.
#[cfg(unix)]
#[test]
fn no_damage_ends_the_process() {
    if let Some(file) = std::env::var_os(FILE) {
        return damage(Path::new(&file));
    }
    let this = std::env::current_exe().unwrap();
    for file in files() {
        let limited = format!("ulimit -v {MAX_KIB} && exec \"$0\" \"$@\"");
        let test = "damaged_parquet::no_damage_ends_the_process";
        let output = Command::new("sh")
            .args(["-c", &limited])
            .arg(&this)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(FILE, &file)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().rev().find(|it| it.starts_with("byte "));
        assert!(
            output.status.success(),
            "{} at {}: {}, {}",
            file.display(),
            last.unwrap_or("the start"),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(last.is_some(), "nothing was damaged: {said}");
    }
}

/// Reads the file with every byte changed in turn, and says which before each one.
fn damage(file: &Path) {
    // Decoders that panic are caught; their words would be thousands of lines.
    std::panic::set_hook(Box::new(|_| {}));
    let bytes = std::fs::read(file).unwrap();
    let (n_flips, seed) = (number("HARNESS_FLIPS", 1), number("HARNESS_FLIP_SEED", 17));
    let mut n_read = 0;
    for at in 0..bytes.len() {
        for flip in 0..n_flips {
            let place = [at as u64, flip, seed].map(u64::to_le_bytes).concat();
            let draw = blake3::hash(&place).as_bytes()[0];
            // With one per bit every bit is changed; else any other value may stand there.
            let mask = if n_flips == 8 { 1 << flip } else { draw.max(1) };
            println!("byte {at} of {} ^ {mask:#04x}", bytes.len());
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            let read = dataset::parse(Path::new("x.parquet"), Format::Parquet, &damaged);
            n_read += usize::from(read.is_ok());
        }
    }
    println!(
        "byte {} of {}: {n_read} were read",
        bytes.len(),
        bytes.len()
    );
}

/// A decoder would take this one; of a table it is the check that refuses it.
#[test]
fn a_table_is_checked_before_it_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let deltas = "tests/fixtures/parquet/delta.parquet";
    let deltas = Path::new(env!("CARGO_MANIFEST_DIR")).join(deltas);
    std::fs::copy(deltas, folder.path().join("cases.parquet")).unwrap();
    let err = harness::table::read_table(folder.path(), "cases").unwrap_err();
    assert!(err.to_string().contains("is not read, only PLAIN"), "{err}");
}
