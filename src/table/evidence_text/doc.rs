//! The shapes of evidence in JSON, and the way from them to evidence, every part checked.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::compare::{
    CaseEvidence, Cases, Evidence, ExampleEvidence, Examples, MetricEvidence, ModelEvidence,
    ShortDigest, VariantEvidence,
};
use crate::metric::{Metric, Recipe, Unit, Value};
use crate::score::{Likelihood, Status};
use crate::stats::{Direction, Interval};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentDoc {
    #[serde(rename = "schema_version")]
    _schema_version: u32,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) saved_at: String,
    pub(super) replaced: Option<ReplacedDoc>,
    pub(super) evidence: EvidenceDoc,
    pub(super) anchor: Option<EvidenceDoc>,
    #[serde(rename = "digest")]
    _digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplacedDoc {
    pub(super) run: String,
    pub(super) digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EvidenceDoc {
    experiment: String,
    run: String,
    is_finished: bool,
    seed: u64,
    primary: String,
    control: Option<String>,
    margin: Option<Exact>,
    models: Vec<ModelDoc>,
    variants: Vec<VariantDoc>,
    metrics: Vec<MetricDoc>,
    examples: ExamplesDoc,
    cells: Vec<CellDoc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelDoc {
    name: String,
    digest: String,
    tokenizer_digest: String,
    numerics: String,
    scoring_version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantDoc {
    pub(super) name: String,
    pub(super) template_digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricDoc {
    name: String,
    source: String,
    unit: String,
    higher_is_better: bool,
    range: Option<(Exact, Exact)>,
    is_descriptive: bool,
    is_declared: bool,
    signature: Option<String>,
    recipe: Option<RecipeDoc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecipeDoc {
    pub(super) text: String,
    pub(super) reads_references: bool,
}

#[derive(Deserialize)]
struct ExampleDoc(
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CellDoc {
    model: String,
    variant: String,
    cases: CasesDoc,
}

#[derive(Deserialize)]
struct CaseDoc(
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<(Exact, usize, usize, bool, bool)>,
    Vec<Option<ValueDoc>>,
);

/// All examples; as texts they would take several times the memory.
struct ExamplesDoc(Examples);

impl<'de> Deserialize<'de> for ExamplesDoc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut examples = Examples::default();
        deserializer.deserialize_seq(each(|it: ExampleDoc| {
            examples.push(&it.read()?);
            Ok(())
        }))?;
        Ok(Self(examples))
    }
}

/// The cases of a cell, each made evidence as it is read.
#[derive(Default)]
struct CasesDoc {
    /// Digest of their examples' ids, which are many.
    ids: IdsDigest,
    cases: Cases,
}

/// Digest of a list of ids; no two lists share an encoding.
#[derive(Default)]
struct IdsDigest(blake3::Hasher);

impl IdsDigest {
    fn add(&mut self, id: &str) {
        let length = (id.len() as u64).to_le_bytes();
        self.0.update(&length).update(id.as_bytes());
    }
}

impl<'de> Deserialize<'de> for CasesDoc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = Self::default();
        deserializer.deserialize_seq(each(|it: CaseDoc| {
            read.ids.add(&it.0);
            read.cases.push(it.read()?);
            Ok(())
        }))?;
        Ok(read)
    }
}

/// Takes the entries of a list one by one.
struct EachOf<T, F> {
    take: F,
    entry: PhantomData<T>,
}

fn each<T, F: FnMut(T) -> Result<(), String>>(take: F) -> EachOf<T, F> {
    let entry = PhantomData;
    EachOf { take, entry }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), String>> Visitor<'de> for EachOf<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element()? {
            (self.take)(entry).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A number that is read to the bit: serde's own way to f64 may be off by the last one.
#[derive(Clone, Copy)]
pub(super) struct Exact(pub(super) f64);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        exact(&number).map(Self).map_err(D::Error::custom)
    }
}

fn exact(number: &serde_json::Number) -> Result<f64, String> {
    let parsed: Result<f64, _> = number.as_str().parse();
    let finite = parsed.ok().filter(|it| it.is_finite());
    finite.ok_or_else(|| format!("{number} is no finite number"))
}

struct ValueDoc(Value);

impl<'de> Deserialize<'de> for ValueDoc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value as Json;
        let value = match Json::deserialize(deserializer)? {
            Json::Bool(holds) => Ok(Value::Outcome(holds)),
            Json::Number(number) => exact(&number).map(Value::Number),
            Json::Array(list) => {
                let statistics = list.iter().map(|it| match it {
                    Json::Number(number) => exact(number),
                    _ => Err("a list of statistics holds something else than numbers".to_owned()),
                });
                statistics.collect::<Result<_, _>>().map(Value::Statistics)
            }
            _ => Err("a value is neither a yes or no, nor a number, nor a list".to_owned()),
        };
        value.map(Self).map_err(D::Error::custom)
    }
}

impl EvidenceDoc {
    pub(super) fn read(self) -> Result<Evidence, String> {
        let mut ids = IdsDigest::default();
        self.examples.0.ids().for_each(|it| ids.add(it));
        let ids = ids.0.finalize();
        for (index, cell) in self.cells.iter().enumerate() {
            let n_variants = self.variants.len().max(1);
            let model = self.models.get(index / n_variants).map(|it| &it.name);
            let variant = self.variants.get(index % n_variants).map(|it| &it.name);
            if model != Some(&cell.model) || variant != Some(&cell.variant) {
                let (variant, model) = (&cell.variant, &cell.model);
                return Err(format!(
                    "the cases of `{variant}` on `{model}` are out of place"
                ));
            }
            if cell.cases.ids.0.finalize() != ids {
                let (variant, model) = (&cell.variant, &cell.model);
                return Err(format!(
                    "the cases of `{variant}` on `{model}` are not those of the examples, in \
                     their order"
                ));
            }
        }
        let metrics = self.metrics.into_iter().map(MetricDoc::read);
        let cells = self.cells.into_iter().map(|it| it.cases.cases);
        let evidence = Evidence {
            metrics: metrics.collect::<Result<_, _>>()?,
            cells: cells.collect(),
            examples: self.examples.0,
            experiment: self.experiment,
            run: self.run,
            is_finished: self.is_finished,
            seed: self.seed,
            primary: self.primary,
            control: self.control,
            margin: self.margin.map(|it| it.0),
            models: self.models.into_iter().map(ModelDoc::read).collect(),
            variants: self.variants.into_iter().map(VariantDoc::read).collect(),
        };
        evidence.check().map_err(|error| error.to_string())?;
        Ok(evidence)
    }
}

impl ModelDoc {
    pub(super) fn of(it: &ModelEvidence) -> Self {
        Self {
            name: it.name.clone(),
            digest: it.digest.clone(),
            tokenizer_digest: it.tokenizer_digest.clone(),
            numerics: it.numerics.clone(),
            scoring_version: it.scoring_version,
        }
    }

    fn read(self) -> ModelEvidence {
        ModelEvidence {
            name: self.name,
            digest: self.digest,
            tokenizer_digest: self.tokenizer_digest,
            numerics: self.numerics,
            scoring_version: self.scoring_version,
        }
    }
}

impl VariantDoc {
    fn read(self) -> VariantEvidence {
        VariantEvidence {
            name: self.name,
            template_digest: self.template_digest,
        }
    }
}

impl MetricDoc {
    fn read(self) -> Result<MetricEvidence, String> {
        let place = |reason: &str| format!("metric `{}`: {reason}", self.name);
        let source = self.source.parse();
        let source = source.map_err(|error: crate::metric::UnknownSource| error.to_string());
        let unit = Unit::from_name(&self.unit);
        let metric = Metric {
            source: source.map_err(|it| place(&it))?,
            unit: unit.ok_or_else(|| place(&format!("`{}` is no unit", self.unit)))?,
            name: self.name,
            direction: if self.higher_is_better {
                Direction::HigherIsBetter
            } else {
                Direction::LowerIsBetter
            },
            range: self.range.map(|(low, high)| Interval {
                low: low.0,
                high: high.0,
            }),
            is_descriptive: self.is_descriptive,
            signature: self.signature,
            recipe: self.recipe.map(|it| Recipe {
                text: it.text,
                reads_references: it.reads_references,
            }),
        };
        Ok(MetricEvidence {
            metric,
            is_declared: self.is_declared,
        })
    }
}

fn digest(text: &str) -> Result<ShortDigest, String> {
    text.parse()
        .map_err(|error: crate::compare::NotADigest| error.to_string())
}

fn maybe_digest(text: Option<&String>) -> Result<Option<ShortDigest>, String> {
    text.map(|it| digest(it)).transpose()
}

impl ExampleDoc {
    fn read(self) -> Result<ExampleEvidence, String> {
        let Self(id, row, target, references, cluster) = self;
        let place = |reason: String| format!("example `{id}`: {reason}");
        Ok(ExampleEvidence {
            row_digest: digest(&row).map_err(place)?,
            target_digest: maybe_digest(target.as_ref()).map_err(place)?,
            references_digest: maybe_digest(references.as_ref()).map_err(place)?,
            cluster,
            id,
        })
    }
}

impl CaseDoc {
    fn read(self) -> Result<CaseEvidence, String> {
        let Self(id, status, of_likelihood, of_priors, of_generation, likelihood, values) = self;
        let place = |reason: String| format!("the case of `{id}`: {reason}");
        let unknown = || place(format!("`{status}` is no status"));
        Ok(CaseEvidence {
            status: Status::from_name(&status).ok_or_else(unknown)?,
            likelihood_digest: maybe_digest(of_likelihood.as_ref()).map_err(place)?,
            prior_digest: maybe_digest(of_priors.as_ref()).map_err(place)?,
            generation_digest: maybe_digest(of_generation.as_ref()).map_err(place)?,
            likelihood: likelihood.map(|(total, n_tokens, n_bytes, is_greedy, is_merged)| {
                Likelihood {
                    loglikelihood: total.0,
                    n_tokens,
                    n_bytes,
                    greedy_match: is_greedy,
                    boundary_merge: is_merged,
                }
            }),
            values: values.into_iter().map(|it| it.map(|it| it.0)).collect(),
        })
    }
}
