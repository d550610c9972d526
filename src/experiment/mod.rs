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
mod metric_name;
mod metrics;
mod model;
mod overlay;
mod render;
mod scoring;
mod shape;
mod spec;
mod template_text;
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
pub use scoring::{GenerationSpec, Overflow, ScoringSpec};
pub use spec::ExperimentSpec;
pub use template_text::TemplateText;
pub use value::{Confidence, Date, Finite, NonNegative, Probability, Slug, ValueError};
pub use variant::{Message, Prompt, Role, TemplateSource, VariantSpec};

/// The largest experiment file that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// An experiment file that is valid as far as it can be told from the file alone.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// The folder that paths in the file are relative to.
    pub folder: PathBuf,
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
    let name = path.display().to_string();
    if MAX_BYTES < text.len() as u64 {
        return Err(too_large(&name, text.len() as u64));
    }
    let source = SourceText::new(name, normalized(text));
    let mut root = tree::parse(&source)?;
    let problems = fields::Problems::default();
    overlay::apply(&mut root, overlay, &problems);
    shape::check(&root, shape::ROOT, "", &problems);
    let spec = spec::read(&root, &Place::new(&source, 0..0), &problems);
    let problems = problems.into_inner();
    let Some(spec) = spec.filter(|_| !problems.has_errors()) else {
        debug_assert!(
            problems.has_errors(),
            "a spec is missing only where a problem was reported"
        );
        return Err(problems);
    };
    let resolved = tree::to_toml(&root);
    let experiment = Experiment {
        path: path.to_owned(),
        folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        source,
        spec,
        digest: blake3::hash(resolved.as_bytes()).to_hex().to_string(),
        resolved,
    };
    Ok((experiment, problems.into_iter().collect()))
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
        let line = 1 + error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        refuse(
            format!("`{name}` is not UTF-8 at line {line}"),
            "save the file with the encoding UTF-8",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of the format in one valid file.
    const FULL: &str = include_str!("../../tests/fixtures/experiments/full.toml");

    fn parse_text(text: &str) -> Result<(Experiment, Vec<Diagnostic>), Diagnostics> {
        parse(
            Path::new("experiments/x.toml"),
            text.to_owned(),
            &Overlay::default(),
        )
    }

    /// The overlay that the first line of a fixture asks for: `# args: --set k=v --profile p`.
    fn overlay_of(text: &str) -> Overlay {
        let mut overlay = Overlay::default();
        let line = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# args: "))
            .unwrap_or("");
        let mut words = line.split_whitespace();
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            match (flag, value.split_once('=')) {
                ("--set", Some((key, value))) => {
                    overlay.set.push((key.to_owned(), value.to_owned()))
                }
                ("--profile", None) => overlay.profile = Some(value.to_owned()),
                _ => panic!("{line}"),
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
}
