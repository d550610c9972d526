//! Evidence as text and back, to the bit.
//!
//! One JSON document with a line for each model, variant, metric, example and case, keys in a
//! fixed order and numbers as short as they can be, so that a diff shows which case changed.
//! The last line holds a blake3 digest of all that stands before it, line ends counted as `\n`,
//! so that a file cut off or edited is known as such. Versions are told by the first lines,
//! before anything else is read.

mod doc;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufRead, Seek, Write};

use serde::Serialize;

use crate::compare::{
    CaseEvidence, Evidence, EvidenceError, ExampleRef, MetricEvidence, ShortDigest,
};
use crate::metric::Value;
use crate::stats::Direction;

use doc::{DocumentDoc, ModelDoc, RecipeDoc, ReplacedDoc, VariantDoc};

/// Version of evidence and baseline files; another one is refused by name.
pub const EVIDENCE_VERSION: u32 = 1;

const FIRST_LINES: &str = "{\n\"schema_version\": ";
const LAST_LINE: &str = "\n\"digest\": \"";

impl From<io::Error> for TextError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What stands in a file beside the evidence of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document<'a> {
    /// `evidence` or `baseline`.
    pub(super) kind: String,
    /// The name of a baseline and when it was saved; empty otherwise.
    pub(super) name: String,
    pub(super) saved_at: String,
    /// Run and digest of the baseline that it replaced.
    pub(super) replaced: Option<(String, String)>,
    pub(super) evidence: Cow<'a, Evidence>,
    /// The first of its line.
    pub(super) anchor: Option<Evidence>,
}

/// Why a text is no document.
#[derive(Debug)]
pub(super) enum TextError {
    /// It cannot be read.
    Io(io::Error),
    /// It does not begin like one.
    Foreign,
    /// It begins like one of another version.
    Version(String),
    /// It does not end like one.
    Cut,
    /// It is not what its digest says.
    Edited,
    /// Its parts do not fit.
    Damaged(String),
}

/// Writes the text of a sound document and returns the digest in its last line.
///
/// # Errors
///
/// What `out` says.
pub(super) fn encode(document: &Document<'_>, out: &mut dyn Write) -> io::Result<String> {
    let mut text = Hashing {
        out,
        hash: blake3::Hasher::new(),
    };
    writeln!(text, "{FIRST_LINES}{EVIDENCE_VERSION},")?;
    field(&mut text, "kind", &document.kind)?;
    field(&mut text, "name", &document.name)?;
    field(&mut text, "saved_at", &document.saved_at)?;
    let replaced = document.replaced.as_ref();
    let replaced = replaced.map(|(run, digest)| ReplacedDoc {
        run: run.clone(),
        digest: digest.clone(),
    });
    field(&mut text, "replaced", &replaced)?;
    text.write_all(b"\"evidence\": ")?;
    evidence(&mut text, &document.evidence)?;
    text.write_all(b",\n\"anchor\": ")?;
    match &document.anchor {
        None => text.write_all(b"null")?,
        Some(anchor) => evidence(&mut text, anchor)?,
    }
    text.write_all(b",")?;
    let digest = text.hash.finalize().to_hex().to_string();
    write!(text.out, "{LAST_LINE}{digest}\"\n}}\n")?;
    Ok(digest)
}

/// Writes on, and remembers the digest of what it wrote.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether a document's evidence fits together; one that does not would be refused when read.
pub(super) fn check(document: &Document<'_>) -> Result<(), EvidenceError> {
    document.evidence.check()?;
    document.anchor.as_ref().map_or(Ok(()), Evidence::check)
}

/// Reads a document, and the digest in its last line.
///
/// `text` is read twice: nothing of it is believed before its digest is known.
pub(super) fn decode(
    text: &mut (impl BufRead + Seek),
) -> Result<(Document<'static>, String), TextError> {
    let digest = checked_digest(text)?;
    text.rewind()?;
    let read: DocumentDoc =
        serde_json::from_reader(&mut *text).map_err(|error| match error.classify() {
            serde_json::error::Category::Io => TextError::Io(error.into()),
            _ => TextError::Damaged(error.to_string()),
        })?;
    let document = Document {
        kind: read.kind,
        name: read.name,
        saved_at: read.saved_at,
        replaced: read.replaced.map(|it| (it.run, it.digest)),
        evidence: Cow::Owned(read.evidence.read().map_err(TextError::Damaged)?),
        anchor: match read.anchor {
            Some(anchor) => Some(anchor.read().map_err(TextError::Damaged)?),
            None => None,
        },
    };
    Ok((document, digest))
}

/// The digest in the last line of a text, once it is known to be that of what stands before it.
fn checked_digest(text: &mut impl BufRead) -> Result<String, TextError> {
    let mut hash = blake3::Hasher::new();
    // What was hashed before the last line that begins like the last one, and that line.
    let mut last: Option<(blake3::Hasher, Vec<u8>)> = None;
    let (mut line, mut n_lines) = (Vec::new(), 0);
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        n_lines += 1;
        // Version control may have changed the line ends.
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            line.push(b'\n');
        }
        if n_lines == 1 && line != b"{\n" {
            return Err(TextError::Foreign);
        }
        if n_lines == 2 {
            check_version(&line)?;
        }
        // The line end before it is no part of what is hashed.
        let content = line.strip_suffix(b"\n").unwrap_or(&line);
        if content.starts_with(&LAST_LINE.as_bytes()[1..]) {
            last = Some((hash.clone(), Vec::new()));
        }
        if let Some((_, rest)) = &mut last {
            rest.extend_from_slice(&line);
        }
        if 1 < n_lines {
            hash.update(b"\n");
        }
        hash.update(content);
    }
    if n_lines < 2 {
        return Err(TextError::Foreign);
    }
    let (before, rest) = last.ok_or(TextError::Cut)?;
    let rest = String::from_utf8_lossy(&rest);
    let digest = rest[LAST_LINE.len() - 1..]
        .trim_end()
        .strip_suffix("\"\n}")
        .filter(|it| it.len() == 64)
        .ok_or(TextError::Cut)?;
    if before.finalize().to_hex().as_str() != digest {
        return Err(TextError::Edited);
    }
    Ok(digest.to_owned())
}

/// Whether the second line is that of a document of this version.
fn check_version(line: &[u8]) -> Result<(), TextError> {
    let line = String::from_utf8_lossy(line);
    let start = FIRST_LINES.trim_start_matches("{\n");
    let rest = line.strip_prefix(start).ok_or(TextError::Foreign)?;
    let version = rest.split(',').next().unwrap_or_default();
    if version != EVIDENCE_VERSION.to_string() {
        return Err(TextError::Version(version.chars().take(20).collect()));
    }
    Ok(())
}

/// JSON of a value whose keys are texts.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, counts and lists of them have a JSON form")
}

fn field(text: &mut dyn Write, key: &str, value: &impl Serialize) -> io::Result<()> {
    writeln!(text, "\"{key}\": {},", json(value))
}

/// A list with one entry per line.
fn lines(text: &mut dyn Write, key: &str, entries: impl Iterator<Item = String>) -> io::Result<()> {
    write!(text, "\"{key}\": [")?;
    for (index, entry) in entries.enumerate() {
        text.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        text.write_all(entry.as_bytes())?;
    }
    text.write_all(b"\n]")
}

fn evidence(text: &mut dyn Write, it: &Evidence) -> io::Result<()> {
    text.write_all(b"{\n")?;
    field(text, "experiment", &it.experiment)?;
    field(text, "run", &it.run)?;
    field(text, "is_finished", &it.is_finished)?;
    field(text, "seed", &it.seed)?;
    field(text, "primary", &it.primary)?;
    field(text, "control", &it.control)?;
    let margin = it.margin.map_or_else(|| "null".to_owned(), number);
    writeln!(text, "\"margin\": {margin},")?;
    let models = it.models.iter().map(|it| json(&ModelDoc::of(it)));
    lines(text, "models", models)?;
    text.write_all(b",\n")?;
    let variants = it.variants.iter().map(|it| VariantDoc {
        name: it.name.clone(),
        template_digest: it.template_digest.clone(),
    });
    lines(text, "variants", variants.map(|it| json(&it)))?;
    text.write_all(b",\n")?;
    lines(text, "metrics", it.metrics.iter().map(metric))?;
    text.write_all(b",\n")?;
    lines(text, "examples", it.examples.iter().map(example))?;
    text.write_all(b",\n\"cells\": [")?;
    for (index, cell) in it.cells.iter().enumerate() {
        let model = &it.models[index / it.variants.len()].name;
        let variant = &it.variants[index % it.variants.len()].name;
        text.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        let (model, variant) = (json(model), json(variant));
        write!(text, "{{\"model\": {model}, \"variant\": {variant}, ")?;
        let cases = cell.iter().zip(it.examples.ids());
        let cases = cases.map(|(it, id)| case(id, &it.to_owned()));
        lines(text, "cases", cases)?;
        text.write_all(b"}")?;
    }
    text.write_all(b"\n]\n}")
}

/// The shortest text that is read back as the same number; finite.
fn number(value: f64) -> String {
    // Whole numbers without `.0`, as long as f64 tells neighbours apart.
    if value == value.trunc() && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        format!("{value:?}")
    }
}

fn metric(it: &MetricEvidence) -> String {
    let metric = &it.metric;
    let is_higher_better = metric.direction == Direction::HigherIsBetter;
    let mut line = format!("{{\"name\": {}", json(&metric.name));
    let _ = write!(line, ", \"source\": {}", json(&metric.source.to_string()));
    let _ = write!(line, ", \"unit\": {}", json(&metric.unit.as_str()));
    let _ = write!(line, ", \"higher_is_better\": {is_higher_better}");
    let range = metric.range.map_or_else(
        || "null".to_owned(),
        |it| format!("[{}, {}]", number(it.low), number(it.high)),
    );
    let _ = write!(line, ", \"range\": {range}");
    let _ = write!(line, ", \"is_descriptive\": {}", metric.is_descriptive);
    let _ = write!(line, ", \"is_declared\": {}", it.is_declared);
    let _ = write!(line, ", \"signature\": {}", json(&metric.signature));
    let recipe = metric.recipe.as_ref().map(|it| RecipeDoc {
        text: it.text.clone(),
        reads_references: it.reads_references,
    });
    let _ = write!(line, ", \"recipe\": {}}}", json(&recipe));
    line
}

fn example(it: ExampleRef<'_>) -> String {
    let optional = |digest: Option<ShortDigest>| json(&digest.map(|it| it.to_string()));
    format!(
        "[{}, \"{}\", {}, {}, {}]",
        json(&it.id()),
        it.row_digest(),
        optional(it.target_digest()),
        optional(it.references_digest()),
        json(&it.cluster())
    )
}

/// Id, status, digests of requests for likelihoods, priors and generations, likelihood, own
/// values.
fn case(id: &str, it: &CaseEvidence) -> String {
    let optional = |digest: Option<ShortDigest>| json(&digest.map(|it| it.to_string()));
    let likelihood = it.likelihood.map_or_else(
        || "null".to_owned(),
        |it| {
            format!(
                "[{}, {}, {}, {}, {}]",
                number(it.loglikelihood),
                it.n_tokens,
                it.n_bytes,
                it.greedy_match,
                it.boundary_merge
            )
        },
    );
    let values: Vec<String> = it.values.iter().map(|it| value(it.as_ref())).collect();
    format!(
        "[{}, \"{}\", {}, {}, {}, {likelihood}, [{}]]",
        json(&id),
        it.status.as_str(),
        optional(it.likelihood_digest),
        optional(it.prior_digest),
        optional(it.generation_digest),
        values.join(", ")
    )
}

fn value(it: Option<&Value>) -> String {
    match it {
        None => "null".to_owned(),
        Some(Value::Outcome(holds)) => holds.to_string(),
        Some(Value::Number(it)) => number(*it),
        Some(Value::Ratio(pair)) => list(pair),
        Some(Value::Statistics(statistics)) => list(statistics),
    }
}

fn list(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|it| number(*it)).collect();
    format!("[{}]", numbers.join(","))
}
