//! The line by which two BLEU, chrF or TER numbers are known to be comparable.
//!
//! The format is sacrebleu's (Post 2018). `version` names the version of sacrebleu
//! whose definition is reproduced, not the program that computed the number: equal
//! signatures mean equal definitions, and the golden values in this room's tests hold
//! the equality. `lower` is sacrebleu's `case:lc`. What sacrebleu's own command line
//! could not reproduce from the raw text, an extraction or another normalisation, is
//! named in a field of our own, `prep`; without one, sacrebleu gives the same number.

use super::{BleuTokenizer, Normalizer, chrf};

/// The version of sacrebleu that BLEU, chrF, chrF++ and TER reproduce.
pub const SACREBLEU_VERSION: &str = "2.6.0";

/// How many references the cases of a corpus have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReferenceCount {
    /// Every case has this many.
    Same(usize),
    /// Some cases have more than others.
    Varying,
}

impl ReferenceCount {
    /// Sums up the counts of all cases; without a case, `Same(0)`.
    pub fn of(counts: impl IntoIterator<Item = usize>) -> ReferenceCount {
        let mut counts = counts.into_iter();
        let first = counts.next().unwrap_or(0);
        if counts.all(|count| count == first) {
            ReferenceCount::Same(first)
        } else {
            ReferenceCount::Varying
        }
    }
}

/// What was done to the texts before the metric saw them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preparation<'a> {
    pub(super) is_extracted: bool,
    pub(super) normalizers: &'a [Normalizer],
}

pub(super) fn bleu(
    tokenizer: BleuTokenizer,
    references: ReferenceCount,
    preparation: Preparation,
) -> String {
    let fields = format!("eff:no|tok:{}|smooth:exp", tokenizer.name());
    assemble(references, case(preparation), &fields, preparation)
}

pub(super) fn chrf(
    variant: chrf::Variant,
    references: ReferenceCount,
    preparation: Preparation,
) -> String {
    let fields = format!("eff:yes|nc:6|nw:{}|space:no", variant.max_word_order());
    assemble(references, case(preparation), &fields, preparation)
}

pub(super) fn ter(references: ReferenceCount, preparation: Preparation) -> String {
    // TER lowercases by itself.
    assemble(
        references,
        "lc",
        "tok:tercom|norm:no|punct:yes|asian:no",
        preparation,
    )
}

fn case(preparation: Preparation) -> &'static str {
    let lowers = |it: &Normalizer| matches!(it, Normalizer::Lower | Normalizer::Squad);
    if preparation.normalizers.iter().any(lowers) {
        "lc"
    } else {
        "mixed"
    }
}

fn assemble(
    references: ReferenceCount,
    case: &str,
    fields: &str,
    preparation: Preparation,
) -> String {
    let n_references = match references {
        ReferenceCount::Same(count) => count.to_string(),
        ReferenceCount::Varying => "var".to_owned(),
    };
    let mut steps = Vec::new();
    if preparation.is_extracted {
        steps.push("extract");
    }
    let ours = preparation
        .normalizers
        .iter()
        .filter(|it| **it != Normalizer::Lower);
    steps.extend(ours.map(|it| it.name()));
    let prep = if steps.is_empty() {
        String::new()
    } else {
        format!("prep:{}|", steps.join("+"))
    };
    format!("nrefs:{n_references}|case:{case}|{fields}|{prep}version:{SACREBLEU_VERSION}")
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    const RAW: Preparation = Preparation {
        is_extracted: false,
        normalizers: &[],
    };

    /// sacrebleu 2.6.0, `str(metric.get_signature())` after `corpus_score`.
    #[test]
    fn signatures_equal_those_of_sacrebleu() {
        let lower = Preparation {
            is_extracted: false,
            normalizers: &[Normalizer::Lower],
        };
        for corpus in &goldens::load().corpora {
            let cases = corpus
                .cases
                .iter()
                .map(|name| goldens::load().case(name).references.len());
            let n = ReferenceCount::of(cases);
            for name in BleuTokenizer::ALL_NAMES {
                let expected = &corpus.signatures[&format!("bleu/{name}")];
                assert_eq!(&bleu(name.parse().unwrap(), n, RAW), expected);
            }
            let lower = bleu(BleuTokenizer::V13a, n, lower);
            assert_eq!(lower, corpus.signatures["bleu_lower/13a"]);
            assert_eq!(chrf(chrf::Variant::Chrf, n, RAW), corpus.signatures["chrf"]);
            assert_eq!(
                chrf(chrf::Variant::ChrfPlusPlus, n, RAW),
                corpus.signatures["chrf++"]
            );
            assert_eq!(ter(n, RAW), corpus.signatures["ter"]);
        }
    }

    #[test]
    fn what_sacrebleu_does_not_do_is_named() {
        let normalizers = [Normalizer::Nfc, Normalizer::Lower];
        let preparation = Preparation {
            is_extracted: true,
            normalizers: &normalizers,
        };
        assert_eq!(
            bleu(BleuTokenizer::V13a, ReferenceCount::Same(1), preparation),
            "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|prep:extract+nfc|version:2.6.0"
        );
    }
}
