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

use std::fmt::Write;

use serde::Serialize;

use crate::compare::{
    CaseEvidence, Evidence, EvidenceError, ExampleEvidence, MetricEvidence, ShortDigest,
};
use crate::metric::Value;
use crate::stats::Direction;

use doc::{DocumentDoc, ModelDoc, RecipeDoc, ReplacedDoc, VariantDoc};

/// Version of evidence and baseline files; another one is refused by name.
pub const EVIDENCE_VERSION: u32 = 1;

const FIRST_LINES: &str = "{\n\"schema_version\": ";
const LAST_LINE: &str = "\n\"digest\": \"";

/// What stands in a file beside the evidence of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// `evidence` or `baseline`.
    pub(super) kind: String,
    /// The name of a baseline and when it was saved; empty otherwise.
    pub(super) name: String,
    pub(super) saved_at: String,
    /// Run and digest of the baseline that it replaced.
    pub(super) replaced: Option<(String, String)>,
    pub(super) evidence: Evidence,
    /// The first of its line.
    pub(super) anchor: Option<Evidence>,
}

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextError {
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

/// The text of a document, and the digest in its last line.
///
/// # Errors
///
/// [`EvidenceError`] if the evidence does not fit together; such a file would be refused.
pub(super) fn encode(document: &Document) -> Result<(String, String), EvidenceError> {
    document.evidence.check()?;
    let mut text = format!("{FIRST_LINES}{EVIDENCE_VERSION},\n");
    field(&mut text, "kind", &document.kind);
    field(&mut text, "name", &document.name);
    field(&mut text, "saved_at", &document.saved_at);
    let replaced = document.replaced.as_ref();
    let replaced = replaced.map(|(run, digest)| ReplacedDoc {
        run: run.clone(),
        digest: digest.clone(),
    });
    field(&mut text, "replaced", &replaced);
    text.push_str("\"evidence\": ");
    evidence(&mut text, &document.evidence);
    text.push_str(",\n\"anchor\": ");
    match &document.anchor {
        None => text.push_str("null"),
        Some(anchor) => {
            anchor.check()?;
            evidence(&mut text, anchor);
        }
    }
    text.push(',');
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    let _ = write!(text, "{LAST_LINE}{digest}\"\n}}\n");
    Ok((text, digest))
}

/// The document of a text, and the digest in its last line.
pub(super) fn decode(text: &str) -> Result<(Document, String), TextError> {
    // Version control may have changed the line ends.
    let unified;
    let text = if text.contains('\r') {
        unified = text.replace("\r\n", "\n");
        &unified
    } else {
        text
    };
    let rest = text.strip_prefix(FIRST_LINES).ok_or(TextError::Foreign)?;
    let version = rest.split(',').next().unwrap_or_default();
    if version != EVIDENCE_VERSION.to_string() {
        let version: String = version.chars().take(20).collect();
        return Err(TextError::Version(version));
    }
    let end = text.rfind(LAST_LINE).ok_or(TextError::Cut)?;
    let (content, last) = text.split_at(end);
    let digest = last[LAST_LINE.len()..]
        .trim_end()
        .strip_suffix("\"\n}")
        .filter(|it| it.len() == 64)
        .ok_or(TextError::Cut)?;
    if blake3::hash(content.as_bytes()).to_hex().as_str() != digest {
        return Err(TextError::Edited);
    }
    let read: DocumentDoc =
        serde_json::from_str(text).map_err(|error| TextError::Damaged(error.to_string()))?;
    let document = Document {
        kind: read.kind,
        name: read.name,
        saved_at: read.saved_at,
        replaced: read.replaced.map(|it| (it.run, it.digest)),
        evidence: read.evidence.read().map_err(TextError::Damaged)?,
        anchor: match read.anchor {
            Some(anchor) => Some(anchor.read().map_err(TextError::Damaged)?),
            None => None,
        },
    };
    Ok((document, read.digest))
}

/// JSON of a value whose keys are texts.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, counts and lists of them have a JSON form")
}

fn field(text: &mut String, key: &str, value: &impl Serialize) {
    let _ = writeln!(text, "\"{key}\": {},", json(value));
}

/// A list with one entry per line.
fn lines(text: &mut String, key: &str, entries: impl Iterator<Item = String>) {
    let _ = write!(text, "\"{key}\": [");
    for (index, entry) in entries.enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&entry);
    }
    text.push_str("\n]");
}

fn evidence(text: &mut String, it: &Evidence) {
    text.push_str("{\n");
    field(text, "experiment", &it.experiment);
    field(text, "run", &it.run);
    field(text, "is_finished", &it.is_finished);
    field(text, "seed", &it.seed);
    field(text, "primary", &it.primary);
    field(text, "control", &it.control);
    let margin = it.margin.map_or_else(|| "null".to_owned(), number);
    let _ = writeln!(text, "\"margin\": {margin},");
    lines(
        text,
        "models",
        it.models.iter().map(|it| json(&ModelDoc::of(it))),
    );
    text.push_str(",\n");
    let variants = it.variants.iter().map(|it| VariantDoc {
        name: it.name.clone(),
        template_digest: it.template_digest.clone(),
    });
    lines(text, "variants", variants.map(|it| json(&it)));
    text.push_str(",\n");
    lines(text, "metrics", it.metrics.iter().map(metric));
    text.push_str(",\n");
    lines(text, "examples", it.examples.iter().map(example));
    text.push_str(",\n\"cells\": [");
    for (index, cell) in it.cells.iter().enumerate() {
        let model = &it.models[index / it.variants.len()].name;
        let variant = &it.variants[index % it.variants.len()].name;
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        let (model, variant) = (json(model), json(variant));
        let _ = write!(text, "{{\"model\": {model}, \"variant\": {variant}, ");
        let cases = cell.iter().zip(&it.examples);
        lines(
            text,
            "cases",
            cases.map(|(it, example)| case(&example.id, it)),
        );
        text.push('}');
    }
    text.push_str("\n]\n}");
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

fn example(it: &ExampleEvidence) -> String {
    let optional = |digest: Option<ShortDigest>| json(&digest.map(|it| it.to_string()));
    format!(
        "[{}, \"{}\", {}, {}, {}]",
        json(&it.id),
        it.row_digest,
        optional(it.target_digest),
        optional(it.references_digest),
        json(&it.cluster)
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
