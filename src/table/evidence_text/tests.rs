//! Evidence goes through a file to the bit or not at all.

use proptest::prelude::*;

use super::doc::Exact;
use super::*;
use crate::compare::{RunsOptions, runs, sketch};
use crate::score::Status;

fn document(evidence: Evidence) -> Document<'static> {
    Document {
        kind: "evidence".to_owned(),
        name: String::new(),
        saved_at: String::new(),
        replaced: None,
        evidence: Cow::Owned(evidence),
        anchor: None,
    }
}

fn encoded(document: &Document<'_>) -> (String, String) {
    let mut text = Vec::new();
    let digest = encode(document, &mut text).unwrap();
    (String::from_utf8(text).unwrap(), digest)
}

fn decode(text: &str) -> Result<(Document<'static>, String), TextError> {
    super::decode(&mut std::io::Cursor::new(text))
}

fn text(evidence: Evidence) -> String {
    encoded(&document(evidence)).0
}

/// A text whose digest is right, whatever else it says.
fn sealed(text: &str) -> String {
    let content = &text[..text.rfind(LAST_LINE).unwrap()];
    let digest = blake3::hash(content.as_bytes()).to_hex();
    format!("{content}{LAST_LINE}{digest}\"\n}}\n")
}

#[test]
fn the_form_of_a_file_is_kept() {
    let mut evidence = sketch::run("20260101-120000-abcd", 2, [0.0, 0.125]);
    evidence.cells[1].edit(1, |case| {
        case.status = Status::ContextOverflow;
        case.likelihood = None;
        case.likelihood_digest = None;
    });
    let cluster = "page \"1\"\n".to_owned();
    evidence.examples.edit(0, |it| it.cluster = Some(cluster));
    insta::assert_snapshot!(text(evidence));
}

/// Nothing of a comparison may depend on whether its evidence went through a file.
#[test]
fn a_comparison_through_a_file_is_the_same_to_the_bit() {
    let (one, other) = (
        sketch::run("b", 60, [0.1, 0.01]),
        sketch::run("a", 60, [0.0, 0.0]),
    );
    let back = |evidence: &Evidence| {
        decode(&text(evidence.clone()))
            .unwrap()
            .0
            .evidence
            .into_owned()
    };
    let options = RunsOptions::default();
    let direct = runs(&one, &other, &options).unwrap();
    let through = runs(&back(&one), &back(&other), &options).unwrap();
    assert_eq!(direct, through);
    // Debug tells 0 from -0.
    assert_eq!(format!("{direct:?}"), format!("{through:?}"));
}

#[test]
fn numbers_are_short_and_exact() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (-12.0, "-12"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e308"),
        (1e15, "1000000000000000.0"),
        (999_999_999_999_999.0, "999999999999999"),
    ] {
        assert_eq!(number(value), expected);
        let back: Exact = serde_json::from_str(expected).unwrap();
        assert_eq!(back.0.to_bits(), value.to_bits(), "{expected}");
    }
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |it| it.is_finite()),
        (0u32..100).prop_map(f64::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn evidence_comes_back_as_it_was(
        numbers in prop::collection::vec(finite(), 200),
        ids in prop::collection::hash_set(any::<String>(), 3),
        cluster in any::<Option<String>>(),
        missing in prop::collection::vec(any::<bool>(), 100),
        seed in any::<u64>(),
        margin in prop::option::of(finite()),
    ) {
        let mut evidence = sketch::run("a", 3, [0.0, 0.0]);
        evidence.seed = seed;
        evidence.margin = margin.map(f64::abs);
        let mut ids = ids.into_iter();
        evidence.examples.edit_each(|_, example| {
            example.id = ids.next().unwrap();
            example.cluster.clone_from(&cluster);
        });
        let (mut numbers, mut missing) = (numbers.into_iter().cycle(), missing.into_iter().cycle());
        let mut change = |_: usize, case: &mut CaseEvidence| {
            if let Some(likelihood) = &mut case.likelihood {
                likelihood.loglikelihood = numbers.next().unwrap();
            }
            for value in &mut case.values {
                match value {
                    Some(Value::Number(it)) => *it = numbers.next().unwrap(),
                    Some(Value::Statistics(list)) => {
                        for it in list {
                            *it = numbers.next().unwrap();
                        }
                    }
                    _ => {}
                }
                if missing.next().unwrap() {
                    *value = None;
                }
            }
        };
        for cell in &mut evidence.cells {
            cell.edit_each(&mut change);
        }
        let document = Document {
            kind: "baseline".to_owned(),
            name: "main".to_owned(),
            saved_at: "2026-01-01T00:00:00Z".to_owned(),
            replaced: Some(("r".to_owned(), "d".to_owned())),
            anchor: Some(evidence.clone()),
            evidence: Cow::Owned(evidence),
        };
        let (text, digest) = encoded(&document);
        let (back, read) = decode(&text).unwrap();
        prop_assert_eq!(&back, &document);
        prop_assert_eq!(read, digest);
        prop_assert_eq!(encoded(&back).0, text);
    }
}

/// Version control on some systems writes other line ends.
#[test]
fn line_ends_do_not_matter() {
    let text = text(sketch::run("a", 3, [0.0, 0.0]));
    let other = text.replace('\n', "\r\n");
    assert_eq!(decode(&text).unwrap(), decode(&other).unwrap());
}

#[test]
fn a_cut_or_flipped_file_is_never_taken_for_whole() {
    let text = text(sketch::run("a", 2, [0.0, 0.0]));
    for end in 0..text.len() - 1 {
        let error = decode(&text[..end]).unwrap_err();
        assert!(
            matches!(
                error,
                TextError::Foreign | TextError::Cut | TextError::Version(_)
            ),
            "cut at {end}: {error:?}"
        );
    }
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        let flipped = String::from_utf8(bytes).unwrap();
        assert!(decode(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn a_file_that_says_nonsense_is_refused_with_its_place() {
    let text = text(sketch::run("a", 2, [0.0, 0.0]));
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        sealed(&text.replacen(from, to, 1))
    };
    let table = [
        (
            "\"seed\": 18446744073709551615",
            "\"seed\": 18446744073709551616",
            "line 11",
        ),
        ("\"seed\": 18446744073709551615", "\"seed\": -1", "line 11"),
        (
            "\"margin\": 0.30000000000000004",
            "\"margin\": NaN",
            "line 14",
        ),
        (
            "\"margin\": 0.30000000000000004",
            "\"margin\": 1e999",
            "is no finite number",
        ),
        (
            "\"margin\": 0.30000000000000004",
            "\"margin\": -1",
            "margin: expected a finite number",
        ),
        ("\"is_finished\"", "\"is_done\"", "unknown field `is_done`"),
        ("\"seed\"", "\"run\"", "duplicate field `run`"),
        (
            "statistics 3 chrf",
            "statistics 3 chrg",
            "metric `chrf`: `statistics 3 chrg`",
        ),
        (
            "\"nats/byte\"",
            "\"nats/page\"",
            "metric `loglikelihood_per_byte`: `nats/page` is no unit",
        ),
        (
            "\"ok\"",
            "\"fine\"",
            "the case of `e0000`: `fine` is no status",
        ),
        (
            "\"variant\": \"few\"",
            "\"variant\": \"bare\"",
            "the cases of `bare` on `smol` are out of place",
        ),
        (
            "[\"e0000\", \"ok\"",
            "[\"e0009\", \"ok\"",
            "the cases of `bare` on `smol` are not those of the examples, in their order",
        ),
        ("[\"e0001\", \"", "[\"e0001\", \"0", "example `e0001`: `0"),
        (
            "[\"e0000\", \"ok\", ",
            "[\"e0000\", \"ok\", 1, ",
            "invalid type",
        ),
        ("[true, ", "[\"yes\", ", "neither a yes or no"),
        ("[true, ", "[null, null, ", "expected 14 values, got 15"),
        (
            "[true, ",
            "[0.5, ",
            "its value of `exact_match` is of another kind",
        ),
    ];
    for (from, to, expected) in table {
        let from = if text.contains(from) {
            from.to_owned()
        } else {
            from.replace("true", "false")
        };
        match decode(&replaced(&from, to)) {
            Err(TextError::Damaged(reason)) => {
                assert!(reason.contains(expected), "{to}: {reason}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
    let deep = sealed(&text.replacen("], [", &format!("], {}", "[".repeat(100_000)), 1));
    assert!(decode(&deep).is_err());
}

#[test]
fn another_version_or_file_is_named() {
    let text = text(sketch::run("a", 2, [0.0, 0.0]));
    let newer = text.replace("\"schema_version\": 1", "\"schema_version\": 2");
    assert!(matches!(decode(&newer), Err(TextError::Version(it)) if it == "2"));
    for other in ["", "{}", "\u{feff}{", "PAR1", "{\"schema_version\": 1}"] {
        assert!(matches!(decode(other), Err(TextError::Foreign)), "{other}");
    }
    let edited = text.replace("0.30000000000000004", "0.3");
    assert!(matches!(decode(&edited), Err(TextError::Edited)));
}

#[test]
fn what_would_be_refused_is_not_written() {
    let mut evidence = sketch::run("a", 2, [0.0, 0.0]);
    evidence.cells.pop();
    assert!(check(&document(evidence)).is_err());
}
