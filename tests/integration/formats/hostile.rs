//! Files that nobody wrote by mistake: whatever the bytes say, an answer comes back.

use std::path::Path;
use std::sync::OnceLock;

use harness::engine::local::LocalEngine;
use proptest::prelude::*;

use super::generated::{gguf_file, tensors};
use super::{chain, fixtures, open, refusal};

/// One change of a file's bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip {
        at: prop::sample::Index,
        bit: u8,
    },
    Set {
        at: prop::sample::Index,
        byte: u8,
    },
    /// A length or an offset of all bits, of none, or in between.
    Number {
        at: prop::sample::Index,
        value: u64,
    },
    Cut {
        at: prop::sample::Index,
    },
    Swap {
        a: prop::sample::Index,
        b: prop::sample::Index,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set { at, byte }),
        2 => (at(), prop_oneof![Just(0), Just(1), Just(1 << 31), Just(1 << 63), Just(u64::MAX), any::<u64>()])
            .prop_map(|(at, value)| Damage::Number { at, value }),
        1 => at().prop_map(|at| Damage::Cut { at }),
        1 => (at(), at()).prop_map(|(a, b)| Damage::Swap { a, b }),
    ]
}

/// Applies `damage` to the first `n` bytes, where the header lies; a cut may fall anywhere.
fn damaged(file: &[u8], n: usize, damage: &[Damage]) -> Vec<u8> {
    let mut file = file.to_vec();
    for it in damage {
        let n = n.min(file.len());
        if n < 8 {
            break;
        }
        match it {
            Damage::Flip { at, bit } => file[at.index(n)] ^= 1 << bit,
            Damage::Set { at, byte } => file[at.index(n)] = *byte,
            Damage::Number { at, value } => {
                let at = at.index(n - 7);
                file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            Damage::Cut { at } => file.truncate(at.index(file.len())),
            Damage::Swap { a, b } => file.swap(a.index(n), b.index(n)),
        }
    }
    file
}

/// Opens and loads; both may fail, with a text that says why, and nothing else may happen.
fn survives(base: &Path, path: &str) -> Result<(), TestCaseError> {
    let refused = match open(base, path) {
        Err(err) => chain(&err),
        Ok(model) => match LocalEngine::load(&model) {
            Err(err) => chain(&err),
            Ok(engine) => {
                // What loads also computes, or says why not.
                let _ = engine.logits(&[1, 2, 3]);
                return Ok(());
            }
        },
    };
    prop_assert!(!refused.is_empty());
    Ok(())
}

/// A file, and how many of its bytes are header.
fn tiny_gguf() -> &'static (Vec<u8>, usize) {
    static FILE: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::fs::read(fixtures().join("tiny-llama.gguf")).unwrap();
        let header = harness::model::gguf::Gguf::parse(&file).unwrap();
        let first = header.tensors().values().map(|it| it.offset).min().unwrap();
        (file, first as usize)
    })
}

fn tiny_safetensors() -> &'static (Vec<u8>, usize) {
    static FILE: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::fs::read(fixtures().join("tiny-llama/model.safetensors")).unwrap();
        let n_bytes = u64::from_le_bytes(*file.first_chunk().unwrap());
        (file, 8 + n_bytes as usize)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_gguf_file_is_refused_or_loads(damage in prop::collection::vec(damage(), 1..4)) {
        let base = tempfile::tempdir().unwrap();
        let (file, n) = tiny_gguf();
        std::fs::write(base.path().join("x.gguf"), damaged(file, *n, &damage)).unwrap();
        survives(base.path(), "x.gguf")?;
    }

    #[test]
    fn a_damaged_safetensors_file_is_refused_or_loads(
        damage in prop::collection::vec(damage(), 1..4),
    ) {
        let base = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json"] {
            std::fs::copy(fixtures().join("tiny-llama").join(name), base.path().join(name)).unwrap();
        }
        let (file, n) = tiny_safetensors();
        std::fs::write(base.path().join("model.safetensors"), damaged(file, *n, &damage)).unwrap();
        survives(base.path(), ".")?;
    }

    /// Headers alone are cheap enough for many more cases.
    #[test]
    fn damaged_headers_parse_or_say_why_not(
        damages in prop::collection::vec(prop::collection::vec(damage(), 1..6), 20),
    ) {
        for damage in damages {
            let (file, n) = tiny_gguf();
            if let Ok(header) = harness::model::gguf::Gguf::parse(&damaged(file, *n, &damage)) {
                for tensor in header.tensors().values() {
                    prop_assert!(tensor.range().end <= file.len());
                }
            }
            let (file, n) = tiny_safetensors();
            let file = damaged(file, *n, &damage);
            if let Ok(header) = harness::model::safetensors::Header::parse(&file) {
                let n_bytes: u64 = header
                    .tensors
                    .values()
                    .map(harness::model::safetensors::Tensor::n_bytes)
                    .sum();
                prop_assert!(n_bytes <= file.len() as u64);
            }
        }
    }
}

#[test]
fn parts_and_adapters_are_refused_by_name() {
    let base = tempfile::tempdir().unwrap();
    let file = gguf_file(&tensors(1, |_| harness::model::gguf::TensorType::Q4_0));
    let key = |name: &str, kind: u32, value: &[u8]| {
        let name = [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
        // One key more, put in front of the others, right behind the counts.
        let mut out = file[..24].to_vec();
        out[16] += 1;
        out.extend([&name[..], &kind.to_le_bytes(), value].concat());
        out.extend(&file[24..]);
        out
    };
    let adapter = [&7_u64.to_le_bytes()[..], b"adapter"].concat();
    let table = [
        (
            key("split.count", 2, &[3, 0]),
            "one of 3 parts of a model; merge them",
        ),
        (
            key("general.type", 8, &adapter),
            "holds no model but: adapter",
        ),
    ];
    for (file, expected) in table {
        std::fs::write(base.path().join("x.gguf"), file).unwrap();
        let got = refusal(base.path(), "x.gguf");
        assert!(got.contains(expected), "{got}");
    }
}

/// A pipe would block, a device would never end.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_at_once() {
    let base = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", base.path().join("zero.gguf")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", base.path().join("zero.bin")).unwrap();
    let pipe = base.path().join("pipe.gguf");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    for name in ["zero.gguf", "zero.bin", "pipe.gguf"] {
        let got = refusal(base.path(), name);
        assert!(got.contains("is not a regular file"), "{got}");
    }
}

/// Another program cuts the file short at any moment: an error, and never the end of the process.
#[test]
fn weights_that_are_cut_short_while_they_are_loaded_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x.gguf");
    let (file, n) = tiny_gguf();
    let mut n_refused = 0;
    for round in 0..200 {
        std::fs::write(&path, file).unwrap();
        let model = open(base.path(), "x.gguf").unwrap();
        let writer = std::fs::File::options().write(true).open(&path).unwrap();
        let length = n + (file.len() - n) * round / 200;
        let loaded = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Loading takes about a millisecond.
                std::thread::sleep(std::time::Duration::from_micros(round as u64 * 37 % 1500));
                writer.set_len(length as u64).unwrap();
            });
            LocalEngine::load(&model)
        });
        if let Err(refused) = loaded {
            let said = chain(&refused);
            assert!(said.contains("x.gguf"), "{said}");
            n_refused += 1;
        }
    }
    assert!(0 < n_refused);
}

/// The digest was computed from the file that was there before.
#[test]
fn weights_that_change_before_they_are_loaded_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x.gguf");
    let (file, n) = tiny_gguf();
    std::fs::write(&path, file).unwrap();
    let model = open(base.path(), "x.gguf").unwrap();
    assert!(LocalEngine::load(&model).is_ok());
    // Another file of the same length takes its place.
    let mut other = file.clone();
    other[*n + 100] ^= 1;
    let beside = base.path().join("y");
    std::fs::write(&beside, &other).unwrap();
    std::fs::rename(&beside, &path).unwrap();
    let Err(refused) = LocalEngine::load(&model) else {
        panic!("other weights under the digest of the first");
    };
    let said = chain(&refused);
    assert!(
        said.contains("x.gguf") && said.contains("changed"),
        "{said}"
    );
    let reopened = open(base.path(), "x.gguf").unwrap();
    assert_ne!(reopened.digest, model.digest);
    assert!(LocalEngine::load(&reopened).is_ok());
}
