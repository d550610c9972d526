//! What the tests of changed checkpoints share: a changed copy on disk, and its logits.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::engine::local::LocalEngine;
use crate::experiment::ModelSource;
use crate::model::{self, OpenOptions};

/// The folder of the tiny checkpoints.
pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

/// Bits of the logits after a few tokens, or why the model was refused.
pub(super) fn logits(base: &Path, path: &str) -> Result<Vec<u32>, String> {
    let options = OpenOptions {
        offline: true,
        base: base.to_owned(),
        ..OpenOptions::default()
    };
    let source = ModelSource::Path(path.into());
    let model = model::open(&source, &options, &mut |_| {}).map_err(|err| message(&err))?;
    let engine = LocalEngine::load(&model).map_err(|err| message(&err))?;
    let rows = engine.logits(&TOKENS).map_err(|err| message(&err))?;
    Ok(rows.concat().iter().map(|it| it.to_bits()).collect())
}

const TOKENS: [u32; 12] = [5, 90, 17, 300, 41, 8, 260, 77, 19, 150, 233, 4];

/// The error and its causes.
fn message(err: &dyn Error) -> String {
    let mut out = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        out = format!("{out}: {cause}");
        next = cause.source();
    }
    out
}

/// Whether `got` is a refusal that says one of `names`.
pub(super) fn is_refused_by_name(got: &Result<Vec<u32>, String>, names: &[&str]) -> bool {
    got.as_ref()
        .is_err_and(|message| names.iter().any(|it| message.contains(it)))
}

/// Every checkpoint folder.
pub(super) const FOLDERS: [&str; 10] = [
    "tiny-gpt2",
    "tiny-gpt2-bare",
    "tiny-llama",
    "tiny-llama-bias",
    "tiny-llama-linear",
    "tiny-llama-tied",
    "tiny-llama3",
    "tiny-mistral",
    "tiny-qwen2",
    "tiny-qwen3",
];

/// A copy of a checkpoint whose `config.json` can be written anew.
pub(super) struct CheckpointCopy {
    folder: tempfile::TempDir,
    pub(super) config: Value,
}

impl CheckpointCopy {
    pub(super) fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(fixtures().join(name)).unwrap().flatten() {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let config = std::fs::read(folder.path().join("config.json")).unwrap();
        Self {
            config: serde_json::from_slice(&config).unwrap(),
            folder,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The logits under another `config.json`.
    pub(super) fn under(&self, config: &Value) -> Result<Vec<u32>, String> {
        std::fs::write(self.path().join("config.json"), config.to_string()).unwrap();
        logits(self.path(), "./")
    }

    pub(super) fn with(&self, key: &str, value: Value) -> Result<Vec<u32>, String> {
        let mut config = self.config.clone();
        config[key] = value;
        self.under(&config)
    }

    pub(super) fn without(&self, key: &str) -> Result<Vec<u32>, String> {
        let mut config = self.config.clone();
        config.as_object_mut().unwrap().shift_remove(key).unwrap();
        self.under(&config)
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.config.as_object().unwrap().keys().cloned().collect()
    }
}
