//! How a text metric was declared, so that only like is compared with like.

use crate::experiment::{MetricOptions, MetricSpec, Normalizer, Requires, TemplateText};

/// How a declared metric judges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// Metric, options, extraction and normalisation in one line; equal lines judge alike.
    pub text: String,
    /// Whether it holds the generation against the target and the other references.
    pub reads_references: bool,
}

impl Recipe {
    /// That of a declared metric.
    pub fn of(spec: &MetricSpec) -> Self {
        let mut parts = vec![spec.metric.value.to_string()];
        match &spec.options {
            MetricOptions::Contains {
                value,
                all,
                any,
                none,
                ignore_case,
            } => {
                let value = value.as_slice();
                for (key, texts) in [("value", value), ("all", all), ("any", any), ("none", none)] {
                    if !texts.is_empty() {
                        parts.push(format!("{key}={}", quoted(texts)));
                    }
                }
                if *ignore_case {
                    parts.push("ignore_case".to_owned());
                }
            }
            MetricOptions::Regex { pattern } => parts.push(format!("pattern={:?}", pattern.value)),
            MetricOptions::MaxLength { value } => parts.push(format!("value={value}")),
            // The tokenizer of BLEU stands in its signature.
            MetricOptions::AccPmi {
                premise: Some(premise),
            } => parts.push(format!("premise={:?}", premise.text)),
            MetricOptions::Bleu { .. }
            | MetricOptions::None
            | MetricOptions::AccPmi { premise: None } => {}
        }
        if let Some(extract) = &spec.extract {
            parts.push(format!("extract={:?}", extract.value));
        }
        if spec.metric.value.is_of_generation() {
            let steps: Vec<&str> = spec.normalizers().iter().map(|it| step(*it)).collect();
            parts.push(format!("normalize=[{}]", steps.join(",")));
        }
        Self {
            text: parts.join(" "),
            reads_references: spec.requires() == Requires::GenerationAndTarget,
        }
    }
}

fn step(normalizer: Normalizer) -> &'static str {
    match normalizer {
        Normalizer::Nfc => "nfc",
        Normalizer::Trim => "trim",
        Normalizer::Lower => "lower",
        Normalizer::Squad => "squad",
    }
}

fn quoted(texts: &[TemplateText]) -> String {
    let texts: Vec<&str> = texts.iter().map(|it| it.text.as_str()).collect();
    format!("{texts:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::tests::specs;

    fn recipe(metric: &str) -> Recipe {
        Recipe::of(&specs(&format!("[[metrics]]\n{metric}"))[0])
    }

    /// Whatever changes a judgement changes the line; the name it goes by does not.
    #[test]
    fn everything_that_decides_a_judgement_is_in_the_recipe() {
        let table = [
            ("use = 'exact_match'", "exact_match normalize=[trim]"),
            (
                "use = 'exact_match'\nname = 'em'",
                "exact_match normalize=[trim]",
            ),
            (
                "use = 'exact_match'\nnormalize = ['nfc', 'lower']",
                "exact_match normalize=[nfc,lower]",
            ),
            (
                "use = 'f1'\nextract = 'A: \"(.*)'",
                r#"f1 extract="A: \"(.*)" normalize=[trim]"#,
            ),
            (
                "use = 'regex'\npattern = '^a b$'",
                r#"regex pattern="^a b$" normalize=[trim]"#,
            ),
            (
                "use = 'max_length'\nvalue = 9",
                "max_length value=9 normalize=[trim]",
            ),
            (
                "use = 'contains'\nall = ['{{ fr }}']\nnone = ['x', 'y']\nignore_case = true",
                r#"contains all=["{{ fr }}"] none=["x", "y"] ignore_case normalize=[trim]"#,
            ),
            ("use = 'bleu'\ntokenize = 'zh'", "bleu normalize=[]"),
            ("use = 'acc_calibrated'", "acc_calibrated"),
            (
                "use = 'acc_pmi'\npremise = 'It is'",
                r#"acc_pmi premise="It is""#,
            ),
        ];
        for (metric, expected) in table {
            assert_eq!(recipe(metric).text, expected);
        }
        assert!(recipe("use = 'contains'").reads_references);
        assert!(!recipe("use = 'contains'\nany = ['x']").reads_references);
        assert!(!recipe("use = 'is_json'").reads_references);
    }
}
