//! The built-in model against llama.cpp as it runs now, over whole vocabularies; and the
//! same model through the two loaders of the engine.
//!
//! `builtin.rs` compares with numbers that were written down; here the other
//! implementation answers while the tests run (`tests/references.sh` installs it). It
//! reads the model twice: from a copy whose weights are decoded to f32, which is what
//! the engine computes with, and as the file is, where llama.cpp rounds every
//! activation to 8 bits before it multiplies (`Q8_1` against `Q4_1`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use harness::engine::local::LocalEngine;
use harness::engine::{Engine, Stop};
use harness::experiment::ModelSource;
use harness::model::{self, Model, ModelFiles, OpenOptions};
use serde_json::{Value as Json, json};

use super::builtin::{self, cases, encode, engine, guarded, ids, logprobs, text};
use super::references;

/// Largest deviation of a logprob from llama.cpp on the decoded weights, in nats.
///
/// Both sum in f32, in other orders; measured 7e-5 over 1.4 million logprobs.
const DECODED_MAX: f64 = 2e-4;

/// Bounds on the file as it is, in nats: the largest deviation of a logprob, the mean over
/// vocabulary and rows, and the largest divergence of two next-token distributions.
///
/// All of it is 8-bit activations: llama.cpp is as far from its own reading of the
/// decoded weights, which is asserted row by row. Measured: 1.13, 0.16 and 0.024.
const STORED_MAX: f64 = 2.0;
const STORED_MEAN: f64 = 0.3;
const STORED_DIVERGENCE: f64 = 0.05;

/// Logprobs that llama.cpp puts further apart than this, in nats, have a clear order.
const CLEAR: f64 = 1.0;

/// llama.cpp adds the vocabulary's probabilities up in f32 and in order of rank, so its
/// rows sum to 1 only so nearly; they are normalised in f64 before they are compared.
const LLAMA_CPP_SUM: f64 = 1e-3;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for files of hundreds of MB; the system's own may be in memory.
fn large_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn gguf() -> &'static Path {
    match &builtin::model().files {
        ModelFiles::Gguf(path) => path,
        ModelFiles::Safetensors { .. } => panic!("the built-in model is a GGUF file"),
    }
}

/// The Python of the references; `None`, said once, if there is none.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let modules = ["xllamacpp", "gguf", "numpy", "safetensors", "tokenizers"];
    PYTHON
        .get_or_init(|| references::python(&modules))
        .as_deref()
}

/// Runs a script of `tests/fixtures/builtin`.
fn run_script(python: &Path, script: &str, arguments: &[&Path]) {
    let script = project().join("tests/fixtures/builtin").join(script);
    let ended = Command::new(python)
        .arg(&script)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {said}", script.display());
}

/// Every text of a JSON value.
fn collect_texts(value: &Json, into: &mut Vec<String>) {
    match value {
        Json::String(text) => into.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|it| collect_texts(it, into)),
        Json::Object(fields) => fields.values().for_each(|it| collect_texts(it, into)),
        _ => {}
    }
}

/// Every text in the data of `experiments/`.
fn example_texts() -> Vec<String> {
    let mut texts = Vec::new();
    let folder = std::fs::read_dir(project().join("experiments/data")).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|it| it.unwrap().path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "jsonl"))
    {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            collect_texts(&serde_json::from_str(line).unwrap(), &mut texts);
        }
    }
    texts.sort();
    texts.dedup();
    texts
}

/// Texts to tokenise, with whether special tokens in them count: those of the goldens in
/// a dozen scripts, and all of `experiments/`.
fn texts() -> Vec<(String, bool)> {
    let goldens = cases("tokenizations").iter().map(|it| {
        let parse_special = it["parse_special"].as_bool().unwrap();
        (text(&it["text"]).to_owned(), parse_special)
    });
    let examples = example_texts().into_iter().map(|it| (it, false));
    goldens.chain(examples).collect()
}

/// Token ids whose next token is asked for, BOS first, shortest first: several
/// beginnings of each text.
fn prompts() -> Vec<Vec<u32>> {
    let bos = builtin::model().bos.unwrap();
    let golden = |name: &str| {
        let case = cases("loglikelihoods")
            .iter()
            .find(|it| it["name"] == name)
            .unwrap();
        let mut tokens = [ids(&case["context"]), ids(&case["continuation"])].concat();
        if tokens[0] != bos {
            tokens.insert(0, bos);
        }
        tokens
    };
    let mut prompts = vec![vec![bos]];
    for name in [
        "capital",
        "few-shot",
        "digits-long",
        "french-accents",
        "chinese",
        "code",
        "chat-translate",
        "chat-system",
        "long-target",
    ] {
        let tokens = golden(name);
        for part in 1..=3 {
            prompts.push(tokens[..(tokens.len() * part).div_ceil(3)].to_vec());
        }
    }
    let mut long = vec![bos];
    for it in example_texts().iter().filter(|it| 60 < it.len()).take(24) {
        long.extend(encode(&guarded(&format!("{it}\n"), false)));
    }
    prompts.push(long);
    prompts
}

/// What llama.cpp says about `texts()` and `prompts()`.
struct Opinion {
    ids: Vec<Vec<u32>>,
    /// Per prompt the logprobs of all next tokens, normalised; `None` if it does not say.
    rows: Vec<Option<Vec<f64>>>,
}

impl Opinion {
    fn ask(python: &Path, texts: &[(String, bool)], extra: &[&Path]) -> Self {
        let folder = large_folder();
        let prompts = prompts();
        let texts: Vec<Json> = texts
            .iter()
            .map(|(text, parse_special)| json!({"text": text, "parse_special": parse_special}))
            .collect();
        let questions = json!({"n_context": 2048, "texts": texts, "prompts": prompts});
        std::fs::write(folder.path().join("questions.json"), questions.to_string()).unwrap();
        let arguments = [&[gguf(), folder.path()], extra].concat();
        run_script(python, "second_opinion.py", &arguments);
        let answers = std::fs::read(folder.path().join("answers.json")).unwrap();
        let answers: Json = serde_json::from_slice(&answers).unwrap();
        let bytes = std::fs::read(folder.path().join("rows.f64")).unwrap();
        let values: Vec<f64> = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|it| f64::from_le_bytes(*it))
            .collect();
        let mut known = values.chunks_exact(builtin::model().n_vocab);
        assert_eq!(answers["n_rows"], known.len());
        let unknown = ids(&answers["unknown"]);
        // A server that knows nothing would agree with everything.
        assert!(unknown.len() * 5 <= prompts.len(), "{unknown:?}");
        let rows = (0..prompts.len()).map(|i| {
            let is_known = !unknown.contains(&u32::try_from(i).unwrap());
            is_known.then(|| {
                let (row, log_sum) = log_softmax(known.next().unwrap().iter().copied());
                assert!(log_sum.abs() < LLAMA_CPP_SUM, "{log_sum}");
                row
            })
        });
        Self {
            ids: answers["ids"].as_array().unwrap().iter().map(ids).collect(),
            rows: rows.collect(),
        }
    }

    /// On weights decoded to f32.
    fn decoded(python: &Path) -> &'static Self {
        static OPINION: OnceLock<Opinion> = OnceLock::new();
        OPINION.get_or_init(|| Self::ask(python, &[], &[Path::new("--decoded")]))
    }

    /// On the file as it is.
    fn stored(python: &Path) -> &'static Self {
        static OPINION: OnceLock<Opinion> = OnceLock::new();
        OPINION.get_or_init(|| Self::ask(python, &texts(), &[]))
    }
}

/// The logprobs of a row of logits, and what the logits were normalised by.
fn log_softmax(logits: impl Iterator<Item = f64> + Clone) -> (Vec<f64>, f64) {
    let log_sum = logits.clone().map(f64::exp).sum::<f64>().ln();
    (logits.map(|it| it - log_sum).collect(), log_sum)
}

/// The engine's logprobs of all tokens after the first `n` of `tokens`, for several `n`.
fn rows_after<const N: usize>(tokens: &[u32], ns: [usize; N]) -> [Vec<f64>; N] {
    let logits = engine().logits(tokens).unwrap();
    ns.map(|n| log_softmax(logits[n - 1].iter().map(|it| f64::from(*it))).0)
}

/// The engine's rows for `prompts()`: right ones, and with mistakes made on purpose.
struct Ours {
    right: Vec<Vec<f64>>,
    /// Each row is the one before the right one, as if the target were shifted.
    shifted: Vec<Option<Vec<f64>>>,
    /// The BOS is missing.
    without_bos: Vec<Option<Vec<f64>>>,
}

fn ours() -> &'static Ours {
    static OURS: OnceLock<Ours> = OnceLock::new();
    OURS.get_or_init(|| {
        let mut ours = Ours {
            right: Vec::new(),
            shifted: Vec::new(),
            without_bos: Vec::new(),
        };
        for prompt in prompts() {
            let n = prompt.len();
            let [right, before] = rows_after(&prompt, [n, n.max(2) - 1]);
            ours.right.push(right);
            ours.shifted.push((1 < n).then_some(before));
            ours.without_bos.push((1 < n).then(|| {
                let [row] = rows_after(&prompt[1..], [n - 1]);
                row
            }));
        }
        ours
    })
}

/// How far two next-token distributions are from each other, in nats.
#[derive(Debug, Clone, Copy, Default)]
struct Distance {
    /// Mean over the vocabulary of the absolute difference of logprobs.
    mean: f64,
    /// The largest one.
    max: f64,
    /// Kullback-Leibler divergence of the second from the first.
    divergence: f64,
}

fn distance(a: &[f64], b: &[f64]) -> Distance {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| (a - b).abs());
    Distance {
        mean: differences().sum::<f64>() / a.len() as f64,
        max: differences().fold(0.0, f64::max),
        divergence: a.iter().zip(b).map(|(a, b)| a.exp() * (a - b)).sum(),
    }
}

/// Distances of the rows `a` from the rows `b`, where both are known.
fn distances<'a>(a: impl IntoIterator<Item = Option<&'a Vec<f64>>>, b: &Opinion) -> Vec<Distance> {
    a.into_iter()
        .zip(&b.rows)
        .filter_map(|(a, b)| Some(distance(a?, b.as_ref()?)))
        .collect()
}

/// The mean over the rows of their means.
fn mean(distances: &[Distance]) -> f64 {
    distances.iter().map(|it| it.mean).sum::<f64>() / distances.len() as f64
}

/// The largest value over the rows.
fn worst(distances: &[Distance], of: impl Fn(&Distance) -> f64) -> f64 {
    distances.iter().map(of).fold(0.0, f64::max)
}

/// The smallest value over the rows.
fn least(distances: &[Distance], of: impl Fn(&Distance) -> f64) -> f64 {
    distances.iter().map(of).fold(f64::INFINITY, f64::min)
}

/// Ids of the `n` most likely tokens, the most likely one first.
fn top(row: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order.truncate(n);
    order
}

#[test]
fn token_ids_equal_llama_cpp() {
    let Some(python) = python() else {
        return;
    };
    let texts = texts();
    assert!(1000 < texts.len(), "{}", texts.len());
    let theirs = &Opinion::stored(python).ids;
    assert_eq!(theirs.len(), texts.len());
    for ((text, parse_special), theirs) in texts.iter().zip(theirs) {
        assert_eq!(encode(&guarded(text, *parse_special)), *theirs, "{text:?}");
    }
}

/// The engine computes what llama.cpp computes where neither rounds an activation.
#[test]
fn distributions_equal_llama_cpp_on_decoded_weights() {
    let Some(python) = python() else {
        return;
    };
    let (ours, opinion) = (ours(), Opinion::decoded(python));
    let right = distances(ours.right.iter().map(Some), opinion);
    let max = worst(&right, |it| it.max);
    println!("{} rows, largest deviation {max:.1e}", right.len());
    assert!(max < DECODED_MAX, "{max}");
    for mistake in [&ours.shifted, &ours.without_bos] {
        let wrong = distances(mistake.iter().map(Option::as_ref), opinion);
        let least = least(&wrong, |it| it.max);
        println!(
            "{} rows with a mistake, at least {least:.2} away",
            wrong.len()
        );
        assert!(1000.0 * DECODED_MAX < least, "{least}");
    }
}

/// What a user of llama.cpp sees of the same file differs by its 8-bit activations alone.
#[test]
fn distributions_agree_with_llama_cpp_on_the_file_as_it_is() {
    let Some(python) = python() else {
        return;
    };
    let (ours, stored) = (ours(), Opinion::stored(python));
    let decoded = Opinion::decoded(python);
    for (i, (ours, decoded)) in ours.right.iter().zip(&decoded.rows).enumerate() {
        let (Some(decoded), Some(stored)) = (decoded, &stored.rows[i]) else {
            continue;
        };
        let (ours, its_own) = (distance(ours, stored), distance(decoded, stored));
        let gap = (ours.max - its_own.max).abs();
        assert!(gap < 2.0 * DECODED_MAX, "{ours:?} {its_own:?}");
    }
    let right = distances(ours.right.iter().map(Some), stored);
    let (max, mean_of_right) = (worst(&right, |it| it.max), mean(&right));
    let divergence = worst(&right, |it| it.divergence);
    println!("largest {max:.2}, mean {mean_of_right:.2}, divergence {divergence:.3}");
    assert!(max < STORED_MAX, "{max}");
    assert!(mean_of_right < STORED_MEAN, "{mean_of_right}");
    assert!(divergence < STORED_DIVERGENCE, "{divergence}");
    for mistake in [&ours.shifted, &ours.without_bos] {
        let wrong = distances(mistake.iter().map(Option::as_ref), stored);
        let (max, mean) = (worst(&wrong, |it| it.max), mean(&wrong));
        println!("with a mistake: largest {max:.2}, mean {mean:.2}");
        assert!(STORED_MAX < max && STORED_MEAN < mean, "{max} {mean}");
    }
}

/// Among the likeliest tokens, those that are clearly apart have the same order.
#[test]
fn clear_ranks_equal_those_of_llama_cpp() {
    let Some(python) = python() else {
        return;
    };
    let mut n_pairs = 0;
    for (ours, theirs) in ours().right.iter().zip(&Opinion::stored(python).rows) {
        let Some(theirs) = theirs else { continue };
        let top = top(theirs, 20);
        for (rank, a) in top.iter().enumerate() {
            for b in &top[rank + 1..] {
                if CLEAR < theirs[*a] - theirs[*b] {
                    assert!(ours[*b] < ours[*a], "tokens {a} and {b}");
                    n_pairs += 1;
                }
            }
        }
    }
    println!("{n_pairs} pairs in the same order");
    assert!(1000 < n_pairs, "{n_pairs}");
}

/// The weights as safetensors take other names, another row order in the heads and another
/// tokenizer file through the loaders, and must come to the same numbers.
#[test]
fn the_model_scores_the_same_from_safetensors() {
    let Some(python) = python() else {
        return;
    };
    let folder = large_folder();
    let arguments = ["--gguf", "--out"].map(Path::new);
    let arguments = [arguments[0], gguf(), arguments[1], folder.path()];
    run_script(python, "export_safetensors.py", &arguments);
    let source = ModelSource::Path(folder.path().to_owned());
    let exported = model::open(&source, &OpenOptions::default(), &mut |_| {}).unwrap();
    let builtin = builtin::model();
    let facts = |it: &Model| {
        let tokens = (it.bos, it.add_bos, it.eos.clone(), it.n_vocab);
        (
            it.architecture.clone(),
            it.n_context,
            it.n_parameters,
            tokens,
        )
    };
    assert_eq!(facts(&exported), facts(builtin));
    for (text, parse_special) in texts() {
        let text = guarded(&text, parse_special);
        let tokens = exported.tokenizer.encode(&text.text, &text.plain).unwrap();
        let tokens: Vec<u32> = tokens.iter().map(|it| it.id).collect();
        assert_eq!(tokens, encode(&text), "{:?}", text.text);
    }
    let engine = LocalEngine::load(&exported).unwrap();
    let requests = builtin::loglikelihood_requests();
    let (mut n, mut n_equal, mut max) = (0, 0, 0f64);
    engine
        .run(&requests, &Stop::new(), &mut |index, outcome| {
            let expected = logprobs(&builtin::loglikelihoods()[index]).0;
            let got = logprobs(&outcome).0;
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                n += 1;
                n_equal += usize::from(got.to_bits() == expected.to_bits());
                max = max.max(f64::from((got - expected).abs()));
            }
        })
        .unwrap();
    println!("{n} logprobs, {n_equal} of them equal bit for bit, largest deviation {max:.1e}");
    assert!(300 < n, "{n}");
    assert!(max < 1e-5, "{max}");
}
