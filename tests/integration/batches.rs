//! Cases are made in batches that are bounded in bytes, and that see a stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::experiment::{self, ModelSource, Overlay};
use harness::model::{self, OpenOptions};
use harness::plan::{Case, Draft, Plan, Selection};
use serde_json::json;

const EXPERIMENT: &str = r#"
[experiment]
name = "batches"

[models.tiny]
source = "./tiny"

[dataset]
path = "rows.jsonl"
target = "yes"

[variants.bare]
template = "{{ text }}"
"#;

/// A plan over rows with these texts, on a tiny model.
fn plan(texts: impl Iterator<Item = String>) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = texts.map(|it| json!({ "text": it }).to_string()).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
    let file = folder.path().join("batches.toml");
    std::fs::write(&file, EXPERIMENT).unwrap();
    let (experiment, _) = experiment::load(&file, &Overlay::default()).unwrap();
    let all = |_: &str| true;
    let selection = Selection {
        variant: &all,
        model: &all,
    };
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/tiny-llama");
    let source = ModelSource::Path(tiny);
    let model = model::open(&source, &OpenOptions::default(), &mut |_| {}).unwrap();
    let draft = Draft::new(experiment, &selection).unwrap();
    draft.with_models(vec![Arc::new(model)]).unwrap()
}

/// What is made at once is held at once: of long prompts that must be few.
#[test]
fn long_prompts_are_made_a_few_at_a_time() {
    let plan = plan((0..64).map(|i| format!("{i} {}", "word ".repeat(60_000))));
    let n_made = AtomicUsize::new(0);
    let count = || {
        n_made.fetch_add(1, Ordering::Relaxed);
        false
    };
    let mut cases = plan.cases_until(0, &count);
    assert_eq!(cases.next().map(|it| it.key.example), Some(0));
    // 4 MiB are 13 rows of 300 kB.
    assert_eq!(n_made.load(Ordering::Relaxed), 13);
    drop(cases);
    let short = self::plan((0..64).map(|i| format!("{i}")));
    assert_eq!(short.cases(0).count(), 64);
}

/// A batch may take long; who stops the run does not wait for its end.
#[test]
fn a_stop_is_seen_while_cases_are_made() {
    let plan = plan((0..3_000).map(|i| format!("row {i}")));
    let n_asked = AtomicUsize::new(0);
    // More than one batch, then a part of one.
    let stop = || 1_500 <= n_asked.fetch_add(1, Ordering::Relaxed);
    let cases: Vec<Case> = plan.cases_until(0, &stop).collect();
    assert!(cases.len() <= 1_500, "{}", cases.len());
    // The first ones, without a gap.
    let examples: Vec<usize> = cases.iter().map(|it| it.key.example).collect();
    assert_eq!(examples, (0..cases.len()).collect::<Vec<usize>>());
    assert!(1_024 <= cases.len(), "the whole batches before are there");
}
