//! `harness baseline`: the evidence of runs, kept under names to hold later runs against.

use std::time::SystemTime;

use harness::compare::Evidence;
use harness::report::comparison;
use harness::report::escape::line;
use harness::table::{self, Baseline, BaselineError, BaselineId, Line};
use serde_json::json;

use super::args::{BaselineArgs, BaselineCommand};
use super::exit::Exit;
use super::output::{self, OutputError};
use super::side::{self, SideError};

/// Version of the JSON below.
const JSON_VERSION: u32 = 1;

/// Runs one of the subcommands.
pub(super) fn run(args: &BaselineArgs) -> Result<Exit, OutputError> {
    let said = match &args.command {
        BaselineCommand::Save {
            name,
            run,
            new_line,
        } => save(args, name, run, *new_line),
        BaselineCommand::List { json } => list(args, *json),
        BaselineCommand::Show { name, json } => show(args, name, *json),
        BaselineCommand::Rm { name } => rm(args, name),
    };
    match said {
        Ok(text) => {
            output::result(&text)?;
            Ok(Exit::Done)
        }
        Err(err) => {
            output::error(&err, err.hint());
            Ok(Exit::Refused)
        }
    }
}

fn save(args: &BaselineArgs, name: &str, run: &str, new_line: bool) -> Result<String, SideError> {
    let results = &args.results.folder;
    let side = side::run(results, run)?;
    let line_kind = if new_line { Line::New } else { Line::Continue };
    let saved_at = table::format_utc(SystemTime::now());
    let (path, baseline) =
        table::save_baseline(results, name, &side.evidence, &saved_at, line_kind)?;
    let mut text = format!(
        "saved run {} as {}\n",
        line(&side.evidence.run),
        path.display()
    );
    if let Some(replaced) = &baseline.replaced {
        text += &format!("it replaces the one of run {}", line(&replaced.run));
        text += &match &baseline.anchor {
            Some(anchor) => format!("; its line began with run {}\n", line(&anchor.run)),
            None => "; its line begins anew\n".to_owned(),
        };
    }
    text += "commit it, so that `harness check` holds pull requests against it\n";
    Ok(output::harmless(&text))
}

fn list(args: &BaselineArgs, is_json: bool) -> Result<String, SideError> {
    let baselines = table::list_baselines(&args.results.folder, None)?;
    let mut rows = Vec::new();
    for id in &baselines {
        rows.push((
            id,
            table::read_baseline(&args.results.folder, &id.experiment, &id.name),
        ));
    }
    if is_json {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|(id, baseline)| match baseline {
                Ok(it) => as_json(id, it),
                Err(err) => json!({
                    "experiment": id.experiment,
                    "name": id.name,
                    "error": err.to_string(),
                }),
            })
            .collect();
        let value = json!({"schema_version": JSON_VERSION, "baselines": rows});
        return Ok(output::json(&value));
    }
    if rows.is_empty() {
        return Ok("no baselines; `harness baseline save main` saves the latest run\n".to_owned());
    }
    let name = |id: &BaselineId| format!("{}/{}", id.experiment, id.name);
    let width = rows.iter().map(|it| name(it.0).len()).max().unwrap_or(0);
    let mut text = String::new();
    for (id, baseline) in rows {
        let name = name(id);
        text += &match baseline {
            Ok(it) => format!(
                "{name:width$}  run {}  saved {}  {} examples\n",
                it.evidence.run,
                it.saved_at,
                it.evidence.examples.len()
            ),
            Err(err) => format!("{name:width$}  cannot be read: {err}\n"),
        };
    }
    Ok(output::harmless(&text))
}

fn as_json(id: &BaselineId, baseline: &Baseline) -> serde_json::Value {
    let evidence = &baseline.evidence;
    let variants: Vec<&str> = evidence
        .variants
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let models: Vec<&str> = evidence.models.iter().map(|it| it.name.as_str()).collect();
    json!({
        "experiment": id.experiment,
        "name": id.name,
        "run": evidence.run,
        "saved_at": baseline.saved_at,
        "replaced": baseline.replaced.as_ref().map(|it| &it.run),
        "anchor": baseline.anchor().run,
        "digest": baseline.digest,
        "models": models,
        "variants": variants,
        "n_examples": evidence.examples.len(),
        "primary": evidence.primary,
    })
}

fn show(args: &BaselineArgs, name: &str, is_json: bool) -> Result<String, SideError> {
    let id = side::find_baseline(&args.results.folder, name)?;
    let baseline = table::read_baseline(&args.results.folder, &id.experiment, &id.name)?;
    if is_json {
        return Ok(output::json(&as_json(&id, &baseline)));
    }
    let evidence = &baseline.evidence;
    let mut lines = vec![
        format!("{}/{}  {}", id.experiment, id.name, id.path.display()),
        format!("run       {}", evidence.run),
        format!("saved     {}", baseline.saved_at),
    ];
    if let Some(replaced) = &baseline.replaced {
        lines.push(format!("replaced  {}", replaced.run));
    }
    if let Some(anchor) = &baseline.anchor {
        lines.push(format!("anchor    {}", anchor.run));
    }
    for model in &evidence.models {
        lines.push(format!(
            "model     {}  {}  {}",
            model.name,
            model.digest.chars().take(16).collect::<String>(),
            model.numerics
        ));
    }
    lines.push(format!("examples  {}", evidence.examples.len()));
    lines.extend(values(evidence));
    Ok(output::harmless(&(lines.join("\n") + "\n")))
}

/// The primary metric of every variant.
fn values(evidence: &Evidence) -> Vec<String> {
    let Some(metric) = evidence.metric(&evidence.primary) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (model, it) in evidence.models.iter().enumerate() {
        for (variant, of) in evidence.variants.iter().enumerate() {
            let unit = evidence.metrics[metric].metric.unit;
            let value = evidence.sample(model, variant, metric).map_or_else(
                |err| err.to_string(),
                |it| comparison::value(unit, it.sample.value()),
            );
            lines.push(format!(
                "value     {} of {} · {}: {value}",
                evidence.primary, it.name, of.name
            ));
        }
    }
    lines
}

fn rm(args: &BaselineArgs, name: &str) -> Result<String, SideError> {
    let id = side::find_baseline(&args.results.folder, name)?;
    std::fs::remove_file(&id.path).map_err(|source| BaselineError::Folder {
        what: "remove",
        path: id.path.clone(),
        source,
    })?;
    Ok(output::harmless(&format!(
        "removed {}\n",
        id.path.display()
    )))
}
