//! What holds for the page as a whole.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::metric::Unit;
use crate::report::fixture::{self, sentiment};
use crate::report::{escape, number};
use crate::table::RunStatus;

/// Texts that would do something if any of them were taken for HTML, a script or a style.
const HOSTILE: [&str; 6] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"}]}</style>",
    "{{ 7*7 }}{% raw %}",
    "\u{2028}\u{202e}&lt;\0",
];

fn hostile() -> StoredRun {
    let mut run = sentiment();
    let model = HOSTILE[0].to_owned();
    run.manifest.models[0].name.clone_from(&model);
    for name in run
        .cases
        .iter_mut()
        .map(|it| &mut it.model)
        .chain(run.choices.iter_mut().map(|it| &mut it.model))
        .chain(run.metrics.iter_mut().map(|it| &mut it.model))
        .chain(run.comparisons.iter_mut().map(|it| &mut it.model))
        .chain(run.manifest.cells.iter_mut().map(|it| &mut it.model))
        .chain(run.manifest.rankings.iter_mut().map(|it| &mut it.model))
    {
        name.clone_from(&model);
    }
    run.manifest.experiment = HOSTILE[1].to_owned();
    run.manifest.host = HOSTILE[2].to_owned();
    for (i, case) in run.cases.iter_mut().enumerate() {
        case.prompt = HOSTILE[i % 6].to_owned();
        case.generation = Some(HOSTILE[(i + 1) % 6].to_owned());
    }
    run.examples[0].fields[0] = (HOSTILE[3].to_owned(), Some(HOSTILE[4].to_owned()));
    run
}

fn of(run: &StoredRun) -> String {
    page(&[PageRun { run, tokens: None }]).unwrap()
}

/// What stands between the first `start` and the next `end`.
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let after = page.split_once(start).unwrap().1;
    after.split_once(end).unwrap().0
}

fn payload_of(page: &str) -> Value {
    serde_json::from_str(between(page, "id=\"data\">", "</script>")).unwrap()
}

/// The page without its three long parts, which have tests of their own.
fn skeleton(page: &str) -> String {
    let mut page = page.to_owned();
    for (start, end) in [
        ("<style>", "</style>"),
        ("id=\"data\">", "</script>"),
        ("<script>", "</script>"),
        ("<pre>", "</pre>"),
    ] {
        let part = between(&page, start, end).to_owned();
        page = page.replacen(
            &format!("{start}{part}{end}"),
            &format!("{start}...{end}"),
            1,
        );
    }
    page
}

#[test]
fn the_skeleton_is_kept() {
    insta::with_settings!({ filters => vec![(r"sha256-[^']{44}", "sha256-...")] }, {
        insta::assert_snapshot!(skeleton(&of(&sentiment())));
    });
}

/// A browser takes the text between the tags, so that must be what was hashed.
#[test]
fn the_policy_allows_exactly_what_stands_in_the_page() {
    let page = of(&sentiment());
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let policy = policy.replace("&#39;", "'").replace("&#x27;", "'");
    let allows = |part: &str, kind: &str| {
        let hash = hash::sha256_base64(part.as_bytes());
        assert!(
            policy.contains(&format!("{kind} 'sha256-{hash}';")),
            "{kind}: {policy}"
        );
    };
    allows(between(&page, "<style>", "</style>"), "style-src");
    allows(between(&page, "<script>", "</script>"), "script-src");
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
        "{policy}"
    );
}

/// What the styles and scripts must not hold for a page that asks nobody for anything.
#[test]
fn nothing_of_the_page_comes_from_elsewhere_or_turns_text_into_elements() {
    let script = SCRIPT.concat();
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "</",
        "<!--",
        "srcdoc",
        "\"href\"",
        "createContextualFragment",
        "localStorage",
        "cssText",
    ] {
        assert!(!script.contains(forbidden), "{forbidden} in the script");
    }
    for forbidden in ["url(", "@import", "</", "expression("] {
        assert!(!STYLE.contains(forbidden), "{forbidden} in the styles");
    }
    // The only address is the name of a namespace.
    let addresses = script.matches("://").count();
    assert_eq!(
        addresses,
        script.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn hostile_texts_stay_data() {
    let page = of(&hostile());
    let count = |tag: &str| page.matches(tag).count();
    assert_eq!(
        (count("<script"), count("</script>"), count("<style")),
        (2, 2, 1)
    );
    assert_eq!((count("<img"), count("<!--")), (0, 0));
    let texts = payload_of(&page)["texts"].clone();
    let texts: Vec<&str> = texts
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // As one string, since the prompts of a variant are cut at their shared start, which is none.
    for hostile in HOSTILE {
        assert!(texts.contains(&hostile), "{hostile:?} is not whole");
    }
}

#[test]
fn the_payload_says_what_the_text_report_says() {
    let run = sentiment();
    let payload = payload_of(&of(&run));
    let shown = &payload["runs"][0];
    let model = &shown["models"][0];
    assert_eq!(shown["sampling_unit"], "example");
    assert_eq!(
        model["ranking"][0],
        json!({ "variant": 2, "mark": "★", "standing": "best" })
    );
    let few = &model["variants"][2]["estimates"][shown["primary"].as_u64().unwrap() as usize];
    assert_eq!(
        (&few["text"], &few["low_text"]),
        (&json!("87.5"), &json!("80.4"))
    );
    let worse = &model["comparisons"][1];
    assert_eq!(
        (&worse["text"], &worse["high_text"]),
        (&json!("-7.5"), &json!("-1.2"))
    );
    assert_eq!(
        (&worse["verdict"], &worse["p_adjusted"]),
        (&json!("regressed"), &json!("0.030"))
    );
    let input = ReportInput::from_stored(&run).unwrap();
    let text = text::summary(
        &input,
        Style {
            color: false,
            width: 1_000,
        },
    );
    let lines = model["notes"]
        .as_array()
        .unwrap()
        .iter()
        .chain([&model["sentence"], &model["legend"]]);
    for line in lines {
        assert!(text.contains(line.as_str().unwrap()), "{line} in\n{text}");
    }
}

#[test]
fn an_unfinished_run_has_no_intervals_and_no_verdicts() {
    let mut run = sentiment();
    run.manifest.status = RunStatus::Interrupted;
    let payload = payload_of(&of(&run));
    let shown = &payload["runs"][0];
    assert_eq!(shown["is_finished"], false);
    let model = &shown["models"][0];
    assert_eq!(model["comparisons"], json!([]));
    for place in model["ranking"].as_array().unwrap() {
        assert_eq!(
            (&place["mark"], &place["standing"]),
            (&json!(""), &json!("unjudged"))
        );
    }
    for estimate in model["variants"][0]["estimates"].as_array().unwrap() {
        assert!(
            estimate["low"].is_null() && estimate["high_text"].is_null(),
            "{estimate}"
        );
    }
    assert!(
        model["notes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| !it.to_string().contains("Best of"))
    );
}

#[test]
fn equal_runs_make_equal_pages() {
    assert_eq!(of(&sentiment()), of(&sentiment()));
    let (one, two) = (sentiment(), fixture::run(&fixture::four_variants()[1..3]));
    let both = [&one, &two].map(|run| PageRun { run, tokens: None });
    let payload = payload_of(&page(&both).unwrap());
    assert_eq!(payload["runs"].as_array().unwrap().len(), 2);
}

/// What `tests/html/drive.mjs` holds the script's rounding and escaping against.
#[test]
fn the_numbers_for_the_script_are_those_of_the_text_report() {
    let units = [
        Unit::Percent,
        Unit::Points,
        Unit::Nats,
        Unit::NatsPerToken,
        Unit::NatsPerByte,
        Unit::BitsPerByte,
        Unit::Plain,
    ];
    let mut values = vec![
        0.0,
        0.3125,
        0.8125,
        0.87525,
        1.0,
        31.25,
        31.35,
        0.5,
        1.5,
        2.5,
        0.125,
        0.375,
        0.0625,
        0.1875,
        0.00005,
        0.000_049,
        0.03125,
        2.675,
        1.005,
        12.345,
        99.95,
        123.45,
        999.95,
        1234.5,
        1235.5,
        12_345_678.0,
        1e-9,
        0.005,
        0.015,
        0.025,
        3.0e-5,
        f64::INFINITY,
    ];
    // Every tie of the shortest rounding, and numbers without a pattern.
    values.extend((0..20).map(|it| f64::from(it) / 16.0));
    values.extend((1..20).map(|it| (f64::from(it) * 0.754_877_666_246_692_7).fract() * 10.0));
    let mut rows = Vec::new();
    for unit in units {
        for value in values.iter().flat_map(|it| [*it, -it]) {
            let bits = format!("{:016x}", value.to_bits());
            rows.push(json!([
                unit.as_str(),
                bits,
                number::value(unit, value),
                number::gain(unit, value)
            ]));
        }
    }
    let mut ranges: Vec<[u32; 2]> = Vec::new();
    for character in '\0'..=char::MAX {
        if escape::lines(&character.to_string())[0] == character.to_string() || character == '\n' {
            continue;
        }
        let code = u32::from(character);
        match ranges.last_mut() {
            Some(range) if range[1] + 1 == code => range[1] = code,
            _ => ranges.push([code, code]),
        }
    }
    let mut text = String::from("{\n\"written\": ");
    write!(text, "{},\n\"numbers\": [\n", json!(ranges)).unwrap();
    let rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    write!(text, "{}\n]\n}}\n", rows.join(",\n")).unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/html/numbers.json");
    if std::env::var("HARNESS_UPDATE").is_ok_and(|it| it == "html-numbers") {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path)
        .unwrap_or_default()
        .replace("\r\n", "\n");
    assert!(
        kept == text,
        "{} is old; HARNESS_UPDATE=html-numbers writes it anew",
        path.display()
    );
}
