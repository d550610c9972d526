//! Finds the weights files of a checkpoint folder and lists what they hold.
//!
//! Promise: every tensor comes from exactly one `.safetensors` file, the one that
//! `model.safetensors.index.json` names where there is an index; nothing is read
//! from a file beside it, and nothing that the index lists is missing. Pickles are
//! refused, never opened. `metadata.total_size` of the index is not compared: each
//! tensor's place is checked, and converters are known to write other totals.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ModelError;
use super::folder::{Folder, MAX_CONFIG_BYTES};
use super::safetensors::{Header, Tensor};
use super::weights_file::WeightsFile;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// What transformers takes as a request to load an adapter as well.
const ADAPTER: &str = "adapter_config.json";
/// The types of weights that are computed with, all of them exact in f32.
const TYPES: [&str; 3] = ["F32", "F16", "BF16"];

/// A tensor of any of the weights files.
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// The weights files of a folder, sorted by name, with their tensors.
pub(super) struct Shards {
    pub(super) files: Vec<PathBuf>,
    pub(super) tensors: Vec<Stored>,
}

/// Finds the weights of `folder` and reads their headers.
pub(super) fn find(folder: &Folder) -> Result<Shards, ModelError> {
    let names = folder.file_names()?;
    if names.iter().any(|it| it == ADAPTER) {
        return Err(folder.refuse(format!(
            "its `{ADAPTER}` asks for an adapter on top of the weights, which is not applied; \
             merge it into them"
        )));
    }
    match folder.optional(INDEX, MAX_CONFIG_BYTES)? {
        Some(bytes) => indexed(folder, &names, &folder.json(INDEX, &bytes)?),
        None => single(folder, &names),
    }
}

/// `model.safetensors`, as in transformers, else the one file there is.
fn single(folder: &Folder, names: &[String]) -> Result<Shards, ModelError> {
    let weights: Vec<&String> = names
        .iter()
        .filter(|it| has_extension(it, &["safetensors"]))
        // The same weights once more under Mistral's own names.
        .filter(|it| !it.starts_with("consolidated"))
        .collect();
    let usual = weights.iter().position(|it| *it == SINGLE);
    match usual.map_or(&weights[..], |i| &weights[i..=i]) {
        [name] => {
            let path = folder.0.join(name.as_str());
            let mut tensors = Vec::new();
            for (name, tensor) in header(&path)?.tensors {
                tensors.push(usable(folder, name, tensor)?);
            }
            Ok(Shards {
                files: vec![path],
                tensors,
            })
        }
        [] => Err(folder.refuse(no_weights(names))),
        _ => Err(folder.refuse(format!(
            "it has {} `.safetensors` files but no `{INDEX}` that says which tensor stands where",
            weights.len()
        ))),
    }
}

/// The files that the index lists, each holding what the index says and nothing else.
fn indexed(folder: &Folder, names: &[String], index: &Value) -> Result<Shards, ModelError> {
    let map = index["weight_map"]
        .as_object()
        .filter(|it| !it.is_empty())
        .ok_or_else(|| folder.refuse(format!("`{INDEX}` has no `weight_map` of tensors")))?;
    let shards = map
        .values()
        .map(|name| match name.as_str() {
            Some(name) if is_plain_name(name) => Ok(name),
            _ => Err(folder.refuse(format!(
                "`{INDEX}` names the file {name}, expected the name of a file beside it"
            ))),
        })
        .collect::<Result<BTreeSet<&str>, _>>()?;
    if !shards.contains(SINGLE) && names.iter().any(|it| it == SINGLE) {
        return Err(folder.refuse(format!(
            "it has a `{SINGLE}` that its `{INDEX}` does not list; remove the one that is not meant"
        )));
    }
    let mut found = Shards {
        files: Vec::new(),
        tensors: Vec::new(),
    };
    for shard in shards {
        let path = folder.0.join(shard);
        if !names.iter().any(|it| it == shard) {
            return Err(folder.refuse(format!(
                "`{INDEX}` lists `{shard}`, which is not there; was the download cut short?"
            )));
        }
        for (name, tensor) in header(&path)?.tensors {
            check_place(folder, map, &name, shard)?;
            found.tensors.push(usable(folder, name, tensor)?);
        }
        found.files.push(path);
    }
    let there: BTreeSet<&str> = found.tensors.iter().map(|it| it.name.as_str()).collect();
    match map.iter().find(|(name, _)| !there.contains(name.as_str())) {
        None => Ok(found),
        Some((name, shard)) => Err(folder.refuse(format!(
            "`{INDEX}` says that the tensor `{name}` stands in {shard}, but it does not"
        ))),
    }
}

fn check_place(
    folder: &Folder,
    map: &Map<String, Value>,
    name: &str,
    shard: &str,
) -> Result<(), ModelError> {
    let says = match map.get(name) {
        Some(listed) if listed == shard => return Ok(()),
        Some(listed) => format!("says {listed}"),
        None => "does not list it".to_owned(),
    };
    Err(folder.refuse(format!(
        "the tensor `{name}` stands in `{shard}`, but `{INDEX}` {says}"
    )))
}

fn header(path: &Path) -> Result<Header, ModelError> {
    Header::read(&WeightsFile::open(path)?)?.map_err(|source| ModelError::Safetensors {
        path: path.to_owned(),
        source,
    })
}

/// Refuses floats of a type that is not computed with; other buffers may be derived ones.
fn usable(folder: &Folder, name: String, tensor: Tensor) -> Result<Stored, ModelError> {
    if tensor.is_float() && !TYPES.contains(&tensor.dtype) {
        return Err(folder.refuse(format!(
            "the tensor `{name}` has the type {}, which is not supported, only {}",
            tensor.dtype,
            TYPES.join(", ")
        )));
    }
    Ok(Stored { name, tensor })
}

/// Why there are no weights, naming what stands there instead.
fn no_weights(names: &[String]) -> String {
    let first = |extensions: &[&str]| names.iter().find(|it| has_extension(it, extensions));
    if let Some(name) = first(&["bin", "pt", "pth", "ckpt", "pkl", "pickle"]) {
        return format!(
            "it has no `.safetensors` file but `{name}`: a pickle can run code and is never opened; \
             convert it on a machine that may run it (transformers: `from_pretrained`, then \
             `save_pretrained`)"
        );
    }
    if let Some(name) = names.iter().find(|it| it.starts_with("consolidated")) {
        return format!(
            "its weights stand only in `{name}`, under Mistral's own names, which are not read;              bring the version for transformers"
        );
    }
    if let Some(name) = first(&["gguf"]) {
        return format!("it has no `.safetensors` file; to use `{name}`, give its own path");
    }
    if let Some(name) = first(&["h5", "msgpack", "onnx", "npz"]) {
        return format!("it has no `.safetensors` file; `{name}` is of a format that is not read");
    }
    "it has no `.safetensors` file".to_owned()
}

/// Whether the file `name` has one of these extensions, in any case.
pub(super) fn has_extension(name: &str, extensions: &[&str]) -> bool {
    Path::new(name).extension().is_some_and(|it| {
        extensions
            .iter()
            .any(|known| it.eq_ignore_ascii_case(known))
    })
}

/// Whether `name` is one plain file name, so that joining it stays in the folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(std::path::Component::Normal(_)), None)
    )
}
