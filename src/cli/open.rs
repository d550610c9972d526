//! From an experiment file to a plan, with every mistake told at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::engine;
use harness::experiment::{
    self, Device, Diagnostic, Diagnostics, Experiment, LocalModel, ModelSpec,
};
use harness::model::{self, Model, OpenOptions};
use harness::plan::{self, Draft, Plan};
use harness::reach::Reach;

use super::args::{InputArgs, Selection};
use super::models::fetching;
use super::output;
use super::progress::Kind;

/// How models are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Fetch nothing.
    pub(crate) offline: bool,
    /// How progress is drawn.
    pub(crate) kind: Kind,
}

/// Models that are open, so that several experiments share them.
#[derive(Debug, Default)]
pub(crate) struct OpenModels(HashMap<String, Arc<Model>>);

/// Reads the experiment at `path` with its data; tells warnings, returns errors.
///
/// # Errors
///
/// Everything that is wrong with the file, the flags and the data.
pub(crate) fn draft(
    path: &Path,
    selection: &Selection,
    inputs: &InputArgs,
) -> Result<Draft, Diagnostics> {
    refuse_missing(&inputs.allowed)?;
    let (experiment, mut problems) = experiment::load_partly(path, &selection.overlay);
    let Some(mut experiment) = experiment else {
        return Err(problems);
    };
    experiment.allowed.clone_from(&inputs.allowed);
    let variant = |name: &str| selection.variants.matches(name);
    let model = |name: &str| selection.models.matches(name);
    let chosen = plan::Selection {
        variant: &variant,
        model: &model,
    };
    if problems.has_errors() {
        // What could be read is checked against the data all the same.
        problems.extend(Draft::more_problems(&experiment, &chosen));
        return Err(problems);
    }
    if !problems.is_empty() {
        output::diagnostics(&problems);
    }
    refuse_unmatched(&experiment, selection)?;
    Draft::new(experiment, &chosen)
}

/// A folder that is not there allows nothing, so its name is a slip of the keyboard.
fn refuse_missing(allowed: &[PathBuf]) -> Result<(), Diagnostics> {
    for folder in allowed {
        if let Err(err) = Reach::of(folder) {
            let what = format!("`--allow-path {}`: {err}", folder.display());
            let problem = Diagnostic::error(what).help("name a folder that is there");
            return Err(problem.into());
        }
    }
    Ok(())
}

/// A pattern that chooses nothing is a slip of the keyboard.
fn refuse_unmatched(experiment: &Experiment, selection: &Selection) -> Result<(), Diagnostics> {
    let spec = &experiment.spec;
    let variants: Vec<&str> = spec.variants.keys().map(String::as_str).collect();
    let models: Vec<&str> = spec.models.keys().map(String::as_str).collect();
    let mut problems = Diagnostics::new();
    for (flag, globs, names) in [
        ("--variant", &selection.variants, &variants),
        ("--model", &selection.models, &models),
    ] {
        for glob in globs.without_match(names) {
            problems.push(
                Diagnostic::error(format!("`{flag} {glob}` selects nothing"))
                    .help(format!("the file has: {}", names.join(", "))),
            );
        }
    }
    if problems.has_errors() {
        Err(problems)
    } else {
        Ok(())
    }
}

/// Opens the models of a draft and completes the plan.
///
/// # Errors
///
/// Every model that cannot be opened, then every prompt that does not work on one.
pub(crate) fn plan(
    draft: Draft,
    opening: Opening,
    open: &mut OpenModels,
) -> Result<Plan, Diagnostics> {
    let mut problems = Diagnostics::new();
    let mut models = Vec::new();
    for (name, spec) in draft.models() {
        match open_one(draft.experiment(), name, spec, opening, open) {
            Ok(model) => models.push(model),
            Err(diagnostic) => problems.push(diagnostic),
        }
    }
    if problems.has_errors() {
        Err(problems)
    } else {
        draft.with_models(models)
    }
}

fn open_one(
    experiment: &Experiment,
    name: &str,
    spec: &ModelSpec,
    opening: Opening,
    open: &mut OpenModels,
) -> Result<Arc<Model>, Diagnostic> {
    let spec = match spec {
        ModelSpec::Local(local) => local,
        ModelSpec::Remote(remote) => {
            return Err(Diagnostic::error(format!(
                "model `{name}` is a server, which this version cannot ask yet"
            ))
            .at(&remote.base_url.place, "")
            .help("leave it out with `--model`, or use a local model"));
        }
    };
    refuse_settings(name, spec)?;
    let options = OpenOptions {
        offline: opening.offline,
        cache: None,
        base: experiment.folder.clone(),
        // A folder that is gone by now admits nothing.
        within: Some(experiment.reach().unwrap_or_default()),
        sha256: spec.sha256.as_ref().map(|it| it.value.clone()),
        weights: spec.weights,
    };
    let key = format!("{:?} {:?}", spec.source.value, options);
    if let Some(model) = open.0.get(&key) {
        return Ok(Arc::clone(model));
    }
    let mut progress = fetching(opening.kind, name);
    let model = model::open(&spec.source.value, &options, &mut progress).map_err(|err| {
        let diagnostic = refused(&format!("model `{name}` cannot be opened"), &err, spec);
        match err.hint() {
            Some(hint) => diagnostic.help(hint),
            None => diagnostic,
        }
    })?;
    // A setting or a tensor that nothing computes is known without the weights.
    engine::local::check(&model).map_err(|err| {
        refused(&format!("model `{name}` cannot be computed"), &err, spec)
            .help("`harness models info SOURCE` shows what the file holds")
    })?;
    let model = Arc::new(model);
    open.0.insert(key, Arc::clone(&model));
    Ok(model)
}

/// A model that was refused, with all causes in one line.
fn refused(what: &str, err: &dyn std::error::Error, spec: &LocalModel) -> Diagnostic {
    let mut told = vec![what.to_owned(), err.to_string()];
    let mut cause = err.source();
    while let Some(it) = cause {
        told.push(it.to_string());
        cause = it.source();
    }
    Diagnostic::error(told.join(": ")).at(&spec.source.place, "")
}

/// What a model may ask for and this version does not have.
fn refuse_settings(name: &str, spec: &LocalModel) -> Result<(), Diagnostic> {
    let refuse = |what: &str, help: &str| {
        Err(Diagnostic::error(format!("model `{name}` asks for {what}"))
            .at(&spec.source.place, "")
            .help(help))
    };
    if spec.device == Device::Cuda {
        return refuse(
            "a CUDA device, but this build computes on the CPU",
            "use `device = \"cpu\"`",
        );
    }
    Ok(())
}
