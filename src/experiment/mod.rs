//! The experiment file as typed data.
//!
//! [`parse`] turns the text of an `experiment.toml`, with a profile and `--set` flags laid
//! over it, into an [`ExperimentSpec`] in which every field is valid on its own and fits the
//! other fields. What is wrong is collected, not thrown at the first mistake: the result is
//! either an [`Experiment`] with warnings or all [`Diagnostics`] at once, each with file,
//! line, mark and help.
//!
//! This room opens no file but the one that [`load`] is given, and knows no other room.
//! Whether a dataset has the fields that a template names is for the room `plan` to find
//! out; it reports with the same [`Diagnostic`].

mod about;
mod cross_check;
mod dataset;
mod diagnostic;
mod fields;
mod gate;
mod inheritance;
mod metric_name;
mod metrics;
mod model;
mod overlay;
mod render;
mod schema;
mod scoring;
mod shape;
mod spec;
mod template_text;
#[cfg(test)]
mod testing;
mod tree;
mod value;
mod variant;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use about::About;
pub use dataset::{Choices, DatasetSpec, FewshotSpec, LimitOrder, ShotOrder};
pub use diagnostic::{Diagnostic, Diagnostics, Label, Place, Severity, SourceText, Spanned};
pub use gate::{Against, Cover, Estimate, GateSpec, OnInconclusive, Rule};
pub use metric_name::{MetricName, Requires, UnknownMetric};
pub use metrics::{BleuTokenizer, MetricOptions, MetricSpec, Normalizer};
pub use model::{
    Api, Device, LocalModel, ModelSource, ModelSpec, Price, RemoteModel, SourceError, Weights,
};
pub use overlay::Overlay;
pub use render::{Color, render};
pub use schema::schema;
pub use scoring::{GenerationSpec, Overflow, ScoringSpec};
pub use spec::ExperimentSpec;
pub use template_text::TemplateText;
pub use value::{Confidence, Date, Finite, NonNegative, Probability, Slug, ValueError};
pub use variant::{Message, Prompt, Role, TemplateSource, VariantSpec};

use crate::reach::Reach;

/// The largest experiment file that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// An experiment file that is valid as far as it can be told from the file alone.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// The folder that paths in the file are relative to.
    pub folder: PathBuf,
    /// Folders besides it in which files that are named may lie; the file has no say in this.
    pub allowed: Vec<PathBuf>,
    /// The text of the file, for messages.
    pub source: Arc<SourceText>,
    /// What the file says.
    pub spec: ExperimentSpec,
    /// The TOML after profile and flags, without comments and profiles, as written to the
    /// results. It parses to the same spec.
    pub resolved: String,
    /// blake3 of `resolved`, as 64 hex digits: comments and layout do not change it.
    pub digest: String,
}

impl Experiment {
    /// Where a path written in the file leads.
    pub fn resolve(&self, written: &Path) -> PathBuf {
        self.folder.join(written)
    }

    /// Where files that are named may lie.
    ///
    /// # Errors
    ///
    /// What the system reports of a folder that is not there.
    pub fn reach(&self) -> std::io::Result<Reach> {
        let mut reach = Reach::of(&self.folder)?;
        for folder in &self.allowed {
            reach.allow(folder)?;
        }
        Ok(reach)
    }
}

/// Reads and parses the file at `path`.
///
/// # Errors
///
/// Those of [`parse`], and one diagnostic if the file is missing, not a regular file, over
/// 1 MiB, unreadable or not UTF-8.
pub fn load(path: &Path, overlay: &Overlay) -> Result<(Experiment, Vec<Diagnostic>), Diagnostics> {
    parse(path, read(path)?, overlay)
}

/// As [`load`], but what can be read of a file with mistakes comes along with them, so that
/// data and templates can be checked too and all is told at once.
///
/// An experiment that comes with errors is for finding more of them; it must not run.
pub fn load_partly(path: &Path, overlay: &Overlay) -> (Option<Experiment>, Diagnostics) {
    match read(path) {
        Ok(text) => parse_partly(path, text, overlay),
        Err(problems) => (None, problems),
    }
}

/// Parses `text`, the content of the file at `path`, with `overlay` laid over it.
///
/// A byte order mark and Windows line ends are dropped first, so that a checkout on another
/// system gives the same prompts. The second part of the result is warnings.
///
/// # Errors
///
/// Everything that is wrong with the file and the overlay; warnings are among it.
pub fn parse(
    path: &Path,
    text: String,
    overlay: &Overlay,
) -> Result<(Experiment, Vec<Diagnostic>), Diagnostics> {
    let (experiment, problems) = parse_partly(path, text, overlay);
    match experiment.filter(|_| !problems.has_errors()) {
        Some(experiment) => Ok((experiment, problems.into_iter().collect())),
        None => Err(problems),
    }
}

/// What can be read of the text, and everything that is wrong with it.
fn parse_partly(path: &Path, text: String, overlay: &Overlay) -> (Option<Experiment>, Diagnostics) {
    let name = path.display().to_string();
    if MAX_BYTES < text.len() as u64 {
        return (None, too_large(&name, text.len() as u64));
    }
    let source = SourceText::new(name, normalized(text));
    let mut root = match tree::parse(&source) {
        Ok(root) => root,
        Err(problems) => return (None, problems),
    };
    let problems = fields::Problems::default();
    overlay::apply(&mut root, overlay, &problems);
    shape::check(&root, shape::ROOT, "", &problems);
    let spec = spec::read(&root, &Place::new(&source, 0..0), &problems);
    let problems = problems.into_inner();
    let Some(spec) = spec else {
        debug_assert!(
            problems.has_errors(),
            "a spec is missing only where a problem was reported"
        );
        return (None, problems);
    };
    let resolved = tree::to_toml(&root);
    let experiment = Experiment {
        path: path.to_owned(),
        folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        allowed: Vec::new(),
        source,
        spec,
        digest: blake3::hash(resolved.as_bytes()).to_hex().to_string(),
        resolved,
    };
    (Some(experiment), problems)
}

/// The text without byte order mark and with `\n` line ends.
fn normalized(text: String) -> String {
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    if text.contains("\r\n") {
        text.replace("\r\n", "\n")
    } else {
        text
    }
}

fn too_large(name: &str, bytes: u64) -> Diagnostics {
    Diagnostic::error(format!(
        "`{name}` has {bytes} bytes; an experiment file has at most {MAX_BYTES}"
    ))
    .help("keep the examples in a data file and name it under [dataset]")
    .into()
}

/// The text of the file, or one diagnostic.
fn read(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    let refuse = |what: String, help: &str| Diagnostics::from(Diagnostic::error(what).help(help));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse(
            format!("there is no file `{name}`"),
            "name an experiment file; `harness init DIR` writes one to start from",
        ),
        _ => refuse(
            format!("cannot read `{name}`: {error}"),
            "check the permissions of the file",
        ),
    })?;
    if metadata.is_dir() {
        return Err(refuse(
            format!("`{name}` is a folder"),
            "name an experiment file in it",
        ));
    }
    if !metadata.is_file() {
        return Err(refuse(
            format!("`{name}` is not a regular file"),
            "name an experiment file",
        ));
    }
    if MAX_BYTES < metadata.len() {
        return Err(too_large(&name, metadata.len()));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        refuse(
            format!("cannot read `{name}`: {error}"),
            "check the permissions of the file",
        )
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .split(|byte| *byte == b'\n')
            .count();
        refuse(
            format!("`{name}` is not UTF-8 at line {line}"),
            "save the file with the encoding UTF-8",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::shape::{Keys, ROOT, Shape};
    use super::testing::message_with;
    use super::*;

    /// Every key of the format in one valid file.
    const FULL: &str = include_str!("../../tests/fixtures/experiments/full.toml");

    fn full(text: &str, overlay: &Overlay) -> Result<Experiment, Diagnostics> {
        parse(Path::new("experiments/full.toml"), text.to_owned(), overlay).map(|(it, _)| it)
    }

    /// The overlay that the first line of a fixture asks for: `# args: --set k=v --profile p`.
    fn overlay_of(text: &str) -> Overlay {
        let mut overlay = Overlay::default();
        let first = text.lines().next().unwrap_or("");
        let mut words = first
            .strip_prefix("# args: ")
            .unwrap_or("")
            .split_whitespace();
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match (flag, value.split_once('=')) {
                ("--set", Some((key, value))) => {
                    overlay.set.push((key.to_owned(), value.to_owned()));
                }
                ("--profile", None) => overlay.profile = Some(value.to_owned()),
                _ => panic!("{first}"),
            }
        }
        overlay
    }

    /// A new case is a new file, not new code.
    #[test]
    fn bad_experiments_explain_themselves() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../tests/fixtures/bad-experiments/snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| {
            insta::glob!(
                "../../tests/fixtures/bad-experiments",
                "spec-*.toml",
                |path| {
                    let text = std::fs::read_to_string(path).unwrap();
                    let name = Path::new(path.file_name().unwrap());
                    let overlay = overlay_of(&text);
                    let problems = parse(name, text, &overlay).unwrap_err();
                    insta::assert_snapshot!(render(&problems, 100, Color::Never));
                }
            );
        });
    }

    /// Calls `visit` with the dotted path of every key of the tree that the format knows, the
    /// path of its table in the format, and the place of the key.
    fn walk(
        table: &tree::Table,
        keys: Keys,
        path: &str,
        shape_path: &str,
        visit: &mut dyn FnMut(&str, &str, &Place),
    ) {
        for (key, shape) in keys {
            let Some(entry) = table.get(*key) else {
                continue;
            };
            let (path, shape_path) = (format!("{path}{key}"), format!("{shape_path}{key}"));
            visit(&path, &shape_path, &entry.key);
            let mut below = |node: &tree::Node, keys: Keys, path: String| {
                walk(
                    node.as_table().unwrap(),
                    keys,
                    &path,
                    &format!("{shape_path}."),
                    visit,
                );
            };
            match shape {
                Shape::Table(keys) => below(&entry.node, keys, format!("{path}.")),
                Shape::Named(keys) => {
                    for (name, entry) in entry.node.as_table().unwrap() {
                        below(&entry.node, keys, format!("{path}.{name}."));
                    }
                }
                Shape::List(keys) => {
                    let tree::Value::Array(items) = &entry.node.value else {
                        panic!("{path}")
                    };
                    for (index, item) in items.iter().enumerate() {
                        below(item, keys, format!("{path}.{index}."));
                    }
                }
                Shape::Value | Shape::Free => {}
            }
        }
    }

    /// Every key of the format, in the notation of `walk`.
    fn known(keys: Keys, path: &str, all: &mut Vec<String>) {
        for (key, shape) in keys {
            all.push(format!("{path}{key}"));
            if let Shape::Table(keys) | Shape::Named(keys) | Shape::List(keys) = shape {
                known(keys, &format!("{path}{key}."), all);
            }
        }
    }

    fn full_tree() -> tree::Table {
        tree::parse(&SourceText::new("full.toml", FULL)).unwrap()
    }

    /// No key of the format is dead: a value of the wrong type is refused, wherever it stands.
    #[test]
    fn every_known_key_is_read() {
        let mut seen = Vec::new();
        walk(&full_tree(), ROOT, "", "", &mut |path, shape_path, _| {
            seen.push(shape_path.to_owned());
            if path.starts_with("profiles") {
                return;
            }
            let set = vec![(path.to_owned(), "[[0.5]]".to_owned())];
            let problems = full(FULL, &Overlay { profile: None, set }).expect_err(path);
            let points_at_flag =
                |it: &Diagnostic| it.labels.iter().any(|it| it.place.source.name == "--set");
            assert!(problems.iter().any(points_at_flag), "{path}: {problems:?}");
        });
        let mut all = Vec::new();
        known(ROOT, "", &mut all);
        all.retain(|key| !seen.contains(key));
        assert_eq!(all, Vec::<String>::new(), "full.toml lacks these");
    }

    /// One letter too many in any key is found, and named.
    #[test]
    fn a_misspelt_key_is_always_refused() {
        walk(&full_tree(), ROOT, "", "", &mut |path, _, place| {
            let mut text = FULL.to_owned();
            text.insert(place.span.end, 'x');
            let key = &text[place.span.start..=place.span.end];
            let problems = full(&text, &Overlay::default()).expect_err(path);
            let named = format!("`{key}`");
            assert!(
                problems.iter().any(|it| it.message.contains(&named)),
                "{path}: {problems:?}"
            );
        });
    }

    /// The results hold the experiment as it was run, and can be run again.
    #[test]
    fn the_resolved_text_parses_to_the_same_spec() {
        for profile in [None, Some("ci".to_owned()), Some("tiny".to_owned())] {
            let first = full(
                FULL,
                &Overlay {
                    profile,
                    set: Vec::new(),
                },
            )
            .unwrap();
            let again = full(&first.resolved, &Overlay::default()).unwrap();
            assert_eq!(first.spec, again.spec);
            assert_eq!(
                (first.resolved, first.digest),
                (again.resolved, again.digest)
            );
        }
    }

    #[test]
    fn the_digest_ignores_comments_and_sees_values() {
        let digest = |text: &str| full(text, &Overlay::default()).unwrap().digest;
        let original = digest(FULL);
        assert_eq!(original.len(), 64);
        assert_eq!(digest(&format!("# a comment\n\n{FULL}")), original);
        assert_ne!(digest(&FULL.replace("seed = 17", "seed = 18")), original);
    }

    /// A checkout with other line ends measures the same prompts.
    #[test]
    fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
        let unix = FULL.replace(
            "template = \"{{ en }}\\nFrench:\"",
            "template = \"\"\"{{ en }}\nFrench:\"\"\"",
        );
        assert_ne!(unix, FULL);
        let windows = format!("\u{feff}{}", unix.replace('\n', "\r\n"));
        let spec = |text: &str| full(text, &Overlay::default()).unwrap().spec;
        assert_eq!(spec(&unix), spec(FULL));
        assert_eq!(spec(&windows), spec(FULL));
    }

    #[test]
    fn paths_lead_to_the_folder_of_the_file() {
        let experiment = full(FULL, &Overlay::default()).unwrap();
        assert_eq!(experiment.folder, Path::new("experiments"));
        let data = experiment.resolve(&experiment.spec.dataset.path.value);
        assert_eq!(data, Path::new("experiments/data/en-fr.jsonl"));
    }

    #[test]
    fn the_primary_metric_has_a_default() {
        let primary = |text: &str| testing::spec(text).primary().0.to_owned();
        let choices = "[dataset]\npath = 'd.csv'\ntarget = 'a'\nchoices = ['a', 'b']\n";
        let metrics = "[generation]\nmax_tokens = 1\n[[metrics]]\nuse = ['perplexity', 'chrf']\n";
        assert_eq!(primary(""), "loglikelihood_per_byte");
        assert_eq!(primary(metrics), "chrf", "perplexity cannot rank");
        assert_eq!(primary(&format!("{choices}{metrics}")), "acc");
        let spec = full(FULL, &Overlay::default()).unwrap().spec;
        assert_eq!(spec.metric("answer"), Some(MetricName::ExactMatch));
        assert_eq!(spec.metric("acc_calibrated"), None, "must be declared");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let table = [
            (folder.path().join("none.toml"), "there is no file"),
            (folder.path().to_owned(), "is a folder"),
            (
                file("latin1.toml", b"# a\n# caf\xe9\n"),
                "is not UTF-8 at line 2",
            ),
            (
                file("large.toml", &vec![b'\n'; (1 << 20) + 1]),
                "has 1048577 bytes",
            ),
        ];
        for (path, expected) in table {
            let problems = load(&path, &Overlay::default()).unwrap_err();
            let text = render(&problems, 1000, Color::Never);
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
            assert!(text.contains("help: "), "{text}");
        }
        if cfg!(unix) {
            let problems = load(Path::new("/dev/null"), &Overlay::default()).unwrap_err();
            let text = render(&problems, 1000, Color::Never);
            assert!(text.contains("`/dev/null` is not a regular file"), "{text}");
        }
        let path = file("good.toml", FULL.as_bytes());
        assert_eq!(
            load(&path, &Overlay::default()).unwrap().0.folder,
            folder.path()
        );
    }

    proptest::proptest! {
        /// Whatever stands in the file: it is read or explained, never a crash.
        #[test]
        fn a_damaged_file_is_read_or_explained(
            cuts in proptest::collection::vec((0_usize..FULL.len(), 0_usize..12, "\\PC{0,3}|[\"'\\[\\]{}=.\n\\\\]"), 1..4),
            flag in "[a-z.\"0-9]{0,20}",
        ) {
            let mut text = FULL.to_owned();
            for (at, length, new) in cuts {
                let start = text.floor_char_boundary(at);
                let end = text.ceil_char_boundary(start + length).min(text.len());
                text.replace_range(start..end, &new);
            }
            let set = if flag.is_empty() { Vec::new() } else { vec![(flag, "1".to_owned())] };
            if let Err(problems) = full(&text, &Overlay { profile: None, set }) {
                proptest::prop_assert!(problems.has_errors());
                proptest::prop_assert!(!render(&problems, 80, Color::Never).is_empty());
            }
        }
    }

    /// Hostile nesting is an error, not a crash.
    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(full(&text, &Overlay::default()).unwrap_err().has_errors());
        let keys = format!("{}a = 1", "a.".repeat(20_000));
        assert!(full(&keys, &Overlay::default()).unwrap_err().has_errors());
        let set = vec![(format!("{}a", "a.".repeat(20_000)), "1".to_owned())];
        assert!(
            full(FULL, &Overlay { profile: None, set })
                .unwrap_err()
                .has_errors()
        );
        assert_eq!(
            message_with("", &[("dataset.limit", "1\nx = 2")])
                .split('\n')
                .next(),
            Some("expected a whole number for `limit`, got the string \"1\\nx = 2\"")
        );
    }
}
