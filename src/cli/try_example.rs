//! `harness try`: one variant on one example, token by token.

use std::sync::Arc;

use harness::engine::Engine;
use harness::engine::local::LocalEngine;
use harness::experiment::{Diagnostic, Diagnostics};
use harness::plan::{Case, CaseKey, Plan};
use harness::report::escape;
use harness::request::{Failure, GenerationParams, Outcome, Request, Sampling};
use harness::score::{self, Key, Score, TokenScore};
use serde_json::json;

use super::args::{Selection, TryArgs};
use super::draw::{self, Waiting};
use super::exit::Exit;
use super::glob::Globs;
use super::open::{self, OpenModels, Opening};
use super::output::{self, OutputError};
use super::run::set_threads;
use super::{STOP, signal};

/// Tokens of a generation where the experiment file does not say.
const DEFAULT_MAX_TOKENS: usize = 64;

/// Tries one example.
pub(super) fn run(args: &TryArgs) -> Result<Exit, OutputError> {
    let kind = draw::kind(args.verbosity.verbosity());
    set_threads(args.compute.n_threads);
    let opening = Opening {
        offline: args.compute.offline,
        kind,
    };
    let (plan, key) = match prepare(args, opening) {
        Ok(it) => it,
        Err(problems) => {
            output::diagnostics(&problems);
            return Ok(Exit::Refused);
        }
    };
    if let Err(err) = signal::watch(&STOP) {
        output::error(&err, None);
    }
    let waiting = Waiting::start(kind, &format!("loading weights of {}", plan.models[0].name));
    let engine = match LocalEngine::load(&plan.models[0].model) {
        Ok(engine) => engine,
        Err(err) => {
            drop(waiting);
            output::error(&err, None);
            return Ok(Exit::Refused);
        }
    };
    drop(waiting);
    let mut case = plan.caser(0).case(key);
    case.generation = if args.generate {
        generation(&plan, &case)
    } else {
        None
    };
    let outcomes = match answer(&engine, &case) {
        Ok(outcomes) => outcomes,
        Err(message) => {
            output::note(&format!("error: {message}"));
            return Ok(Exit::Incomplete);
        }
    };
    if STOP.is_raised() {
        return Ok(signal::received().unwrap_or(Exit::Interrupted));
    }
    let judged = Key {
        references: &plan.answers[key.example].references,
        judges: &[],
        conditions: &[],
        keep_tokens: true,
    };
    let score = score::score(case.clone(), outcomes, &judged);
    let text = if args.json {
        output::json(&as_json(&plan, &case, &score))
    } else {
        as_text(&plan, &case, &score)
    };
    output::result(&text)?;
    Ok(if score.status == score::Status::Ok {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// The plan of one variant on one model, and the case to try.
fn prepare(args: &TryArgs, opening: Opening) -> Result<(Plan, CaseKey), Diagnostics> {
    let only = |name: &str| {
        name.parse()
            .map(|it| Globs::new(vec![it]))
            .unwrap_or_default()
    };
    let mut selection = Selection {
        variants: only(&args.variant),
        ..Selection::default()
    };
    if let Some(model) = &args.model {
        selection.models = only(model);
    }
    if args.example.is_some() {
        // An example that a limit leaves out can be tried all the same.
        selection
            .overlay
            .set
            .push(("dataset.limit".to_owned(), i64::MAX.to_string()));
    }
    let draft = open::draft(&args.file, &selection, &args.inputs)?;
    let mut plan = open::plan(draft, opening, &mut OpenModels::default())?;
    plan.models.truncate(1);
    let example = match &args.example {
        None => 0,
        Some(id) => plan
            .examples
            .iter()
            .position(|it| it.id == *id)
            .ok_or_else(|| {
                let ids: Vec<&str> = plan
                    .examples
                    .iter()
                    .take(5)
                    .map(|it| it.id.as_str())
                    .collect();
                Diagnostics::from(
                    Diagnostic::error(format!("there is no example `{id}`"))
                        .help(format!("ids look like {}", ids.join(", "))),
                )
            })?,
    };
    let fields: Vec<_> = args
        .set
        .iter()
        .map(|it| (it.key.clone(), serde_json::Value::String(it.value.clone())))
        .collect();
    plan.set_fields(example, &fields)?;
    Ok((
        plan,
        CaseKey {
            model: 0,
            variant: 0,
            example,
            repeat: 0,
        },
    ))
}

/// The generation of the experiment, or a greedy one where it has none.
fn generation(plan: &Plan, case: &Case) -> Option<Result<Request, Failure>> {
    if case.generation.is_some() {
        return case.generation.clone();
    }
    let tokens = if let Some(request) = case.requests().next() {
        request.tokens[..case.n_context_tokens].to_vec()
    } else {
        match plan.models[0].model.tokenizer.encode(&case.prompt, &[]) {
            Ok(tokens) => tokens.iter().map(|it| it.id).collect(),
            Err(err) => {
                let message = err.to_string();
                return Some(Err(Failure::Engine { message }));
            }
        }
    };
    let params = GenerationParams {
        max_tokens: DEFAULT_MAX_TOKENS,
        stop: Vec::new(),
        sampling: Sampling::Greedy,
        repetition_penalty: 1.0,
    };
    Some(Ok(Request::generation(tokens, Arc::new(params))))
}

fn answer(engine: &LocalEngine, case: &Case) -> Result<Vec<Outcome>, String> {
    let requests: Vec<Request> = case.requests().cloned().collect();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; requests.len()];
    engine
        .run(&requests, &STOP, &mut |index, outcome| {
            outcomes[index] = Some(outcome);
        })
        .map_err(|err| err.to_string())?;
    Ok(outcomes.into_iter().flatten().collect())
}

fn as_text(plan: &Plan, case: &Case, score: &Score) -> String {
    let variant = &plan.variants[case.key.variant].name;
    let model = &plan.models[case.key.model].name;
    let id = escape::line(&plan.examples[case.key.example].id);
    let mut lines = vec![format!(
        "{model} · {variant} · example {id} · {} tokens of context",
        case.n_context_tokens
    )];
    lines.push(String::new());
    lines.extend(
        escape::lines(&score.prompt)
            .into_iter()
            .map(|it| format!("  │ {it}")),
    );
    if let Some(message) = &score.message {
        lines.push(format!("\nnot scored: {}", escape::line(message)));
    }
    for text in &case.scored {
        let tokens: Vec<&TokenScore> = score
            .tokens
            .iter()
            .filter(|it| it.choice_index == text.choice_index)
            .collect();
        if tokens.is_empty() {
            continue;
        }
        let total: f64 = tokens.iter().map(|it| f64::from(it.logprob)).sum();
        let n_bytes = text.text.len().max(1) as f64;
        let what = match text.choice_index {
            None => "target".to_owned(),
            Some(index) if text.is_target => format!("choice {index}, the right one"),
            Some(index) => format!("choice {index}"),
        };
        lines.push(format!(
            "\n{what}: {}   {total:.3} nats, {:.4} nats/byte{}",
            escape::line(&text.text),
            total / n_bytes,
            if text.boundary_merge {
                ", a token straddles the join"
            } else {
                ""
            }
        ));
        for token in tokens {
            lines.push(token_line(plan, case, token));
        }
    }
    if let Some(generation) = &score.generation {
        lines.push(format!(
            "\ngenerated {} tokens, ended by {}:",
            generation.n_tokens,
            generation.finish_reason.as_str()
        ));
        lines.extend(
            escape::lines(&generation.text)
                .into_iter()
                .map(|it| format!("  │ {it}")),
        );
    }
    lines.join("\n") + "\n"
}

fn token_line(plan: &Plan, case: &Case, token: &TokenScore) -> String {
    let text = plan.models[case.key.model]
        .model
        .tokenizer
        .token_text(token.token_id);
    let shown = escape::line(&text.replace(' ', "␠").replace('\n', "⏎"));
    let pad = 18usize.saturating_sub(escape::columns(&shown));
    format!(
        "  {shown}{}{:>7}  {:>8.3}  p {:>7.2} %{}",
        " ".repeat(pad),
        token.token_id,
        token.logprob,
        100.0 * f64::from(token.logprob).exp(),
        if token.is_argmax { "  most likely" } else { "" }
    )
}

fn as_json(plan: &Plan, case: &Case, score: &Score) -> serde_json::Value {
    let tokenizer = &plan.models[case.key.model].model.tokenizer;
    let texts = case.scored.iter().map(|text| {
        let tokens = score
            .tokens
            .iter()
            .filter(|it| it.choice_index == text.choice_index);
        let tokens: Vec<_> = tokens
            .map(|it| {
                json!({
                    "token_id": it.token_id,
                    "token": tokenizer.token_text(it.token_id),
                    "logprob": it.logprob,
                    "is_argmax": it.is_argmax,
                })
            })
            .collect();
        json!({
            "choice_index": text.choice_index,
            "is_target": text.is_target,
            "text": text.text,
            "boundary_merge": text.boundary_merge,
            "tokens": tokens,
        })
    });
    json!({
        "schema_version": 1,
        "model": plan.models[case.key.model].name,
        "variant": plan.variants[case.key.variant].name,
        "example_id": plan.examples[case.key.example].id,
        "status": score.status.as_str(),
        "message": score.message,
        "prompt": score.prompt,
        "n_context_tokens": score.n_context_tokens,
        "scored": texts.collect::<Vec<_>>(),
        "generation": score.generation.as_ref().map(|it| json!({
            "text": it.text,
            "finish_reason": it.finish_reason.as_str(),
            "n_tokens": it.n_tokens,
        })),
    })
}
