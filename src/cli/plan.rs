//! `harness plan`: what a run would ask, without weights.

use std::collections::HashSet;

use harness::experiment::MetricName;
use harness::plan::{Case, Plan, default_delimiter, stripped};
use harness::report::{escape, wrap};
use harness::request::{Answerer, Digest, Request, RequestKey, Work};
use harness::stats;
use serde_json::json;

use super::args::PlanArgs;
use super::draw;
use super::exit::Exit;
use super::forecasts;
use super::gates;
use super::open::{self, OpenModels, Opening};
use super::output::{self, OutputError, Stream};
use super::slips::{self, OfVariant, Slips};

/// Tokens shown at either end of a prompt.
const END_TOKENS: usize = 8;

/// What one variant on one model asks.
#[derive(Default)]
struct Counts {
    n_cases: usize,
    n_context_tokens: usize,
    longest_prompt: usize,
    n_failed: usize,
    n_boundary_merges: usize,
    n_dropped_shots: usize,
    n_truncated: usize,
    first_failure: Option<String>,
}

/// What all requests of a plan amount to.
#[derive(Default)]
struct Totals {
    n_likelihoods: usize,
    n_generations: usize,
    n_tokens: usize,
    distinct: HashSet<RequestKey>,
    /// What is asked of the choices without the examples.
    of_priors: HashSet<RequestKey>,
}

/// Plans one experiment and tells what it would ask.
pub(super) fn run(args: &PlanArgs) -> Result<Exit, OutputError> {
    let opening = Opening {
        offline: args.offline,
        kind: draw::kind(args.verbosity.verbosity()),
    };
    let plan = open::draft(&args.file, &args.selection.selection(), &args.inputs)
        .and_then(|it| open::plan(it, opening, &mut OpenModels::default()));
    let plan = match plan {
        Ok(plan) => plan,
        Err(problems) => {
            output::diagnostics(&problems);
            return Ok(Exit::Refused);
        }
    };
    let base = match gates::base_of_run(&args.results.folder, &plan) {
        Ok(base) => base,
        Err(err) => {
            output::error(&err, err.hint());
            return Ok(Exit::Refused);
        }
    };
    let gates = &plan.experiment.spec.gates;
    let needs = forecasts::forecasts(&args.file, &plan, gates, base.as_ref());
    let n_prompts = args.prompts.map_or(0, std::num::NonZeroUsize::get);
    let mut totals = Totals::default();
    let mut slips = Slips::default();
    let mut counts = Vec::new();
    let mut prompts = Vec::new();
    for model in 0..plan.models.len() {
        let mut of_model: Vec<Counts> = plan.variants.iter().map(|_| Counts::default()).collect();
        for case in plan.cases(model) {
            totals.add(&case, Digest(*plan.models[model].model.digest.as_bytes()));
            slips.add(&case, &plan.answers[case.key.example]);
            if case.key.repeat == 0 {
                of_model[case.key.variant].add(&case);
            }
            if case.key.example < n_prompts.max(1) && case.key.repeat == 0 {
                prompts.push(case);
            }
        }
        counts.push(of_model);
    }
    let is_incomplete = counts.iter().flatten().any(|it| 0 < it.n_failed);
    let noticed = slips.settled();
    let text = if args.json {
        output::json(&as_json(&plan, &counts, &totals, &noticed))
    } else {
        as_text(&plan, &counts, &totals, &prompts, n_prompts)
            + &below(&slips::warnings(&plan, &noticed))
            + &below(&needs)
    };
    output::result(&text)?;
    Ok(if is_incomplete {
        Exit::Incomplete
    } else {
        Exit::Done
    })
}

impl Counts {
    fn add(&mut self, case: &Case) {
        self.n_cases += 1;
        self.n_context_tokens += case.n_context_tokens;
        self.longest_prompt = self.longest_prompt.max(case.n_context_tokens);
        self.n_boundary_merges += usize::from(case.scored.iter().any(|it| it.boundary_merge));
        self.n_dropped_shots += usize::from(0 < case.n_dropped_shots);
        self.n_truncated += usize::from(0 < case.n_truncated_tokens);
        let failure = case
            .scored
            .iter()
            .find_map(|it| it.requests.as_ref().err())
            .or(case.generation.as_ref().and_then(|it| it.as_ref().err()));
        if let Some(failure) = failure {
            self.n_failed += 1;
            self.first_failure
                .get_or_insert_with(|| failure.to_string());
        }
    }

    fn tokens_per_prompt(&self) -> f64 {
        self.n_context_tokens as f64 / self.n_cases.max(1) as f64
    }
}

impl Totals {
    fn add(&mut self, case: &Case, model_digest: Digest) {
        let answerer = Answerer {
            model_digest,
            numerics: String::new(),
        };
        for request in case.own_requests() {
            match request.work {
                Work::Loglikelihood { .. } => self.n_likelihoods += 1,
                Work::Generation(_) => self.n_generations += 1,
            }
            self.n_tokens += request.tokens.len();
            self.distinct.insert(request.key(&answerer));
        }
        for request in case.prior_requests() {
            self.of_priors.insert(request.key(&answerer));
        }
    }

    /// Requests that only priors ask for.
    fn n_priors(&self) -> usize {
        self.of_priors.difference(&self.distinct).count()
    }
}

fn as_text(
    plan: &Plan,
    counts: &[Vec<Counts>],
    totals: &Totals,
    prompts: &[Case],
    n_prompts: usize,
) -> String {
    let spec = &plan.experiment.spec;
    let mut lines = vec![format!(
        "{}: {} of {} examples × {} variants × {} models{} = {} cases",
        spec.experiment.name.as_str(),
        plan.examples.len(),
        plan.dataset.rows.len(),
        plan.variants.len(),
        plan.models.len(),
        if plan.n_repeats() == 1 {
            String::new()
        } else {
            format!(" × {} repeats", plan.n_repeats())
        },
        plan.n_cases(),
    )];
    lines.push(format!(
        "{} likelihoods and {} generations, {} of them distinct; {} tokens before sharing",
        totals.n_likelihoods,
        totals.n_generations,
        totals.distinct.len(),
        totals.n_tokens
    ));
    let n_priors = totals.n_priors();
    if 0 < n_priors {
        lines.push(format!(
            "{n_priors} more likelihoods of the choices without the examples, for label priors"
        ));
    }
    lines.push(format!("ranked by {}{}", plan.primary(), forecast(plan)));
    let chosen: Vec<&str> = plan.variants.iter().map(|it| it.name.as_str()).collect();
    let width = chosen
        .iter()
        .map(|it| it.chars().count())
        .max()
        .unwrap_or(0);
    for (model, of_model) in plan.models.iter().zip(counts) {
        lines.push(String::new());
        let context = model.model.n_context;
        lines.push(format!(
            "{} ({}, context {context})",
            model.name, model.model.source
        ));
        for (name, counts) in chosen.iter().zip(of_model) {
            lines.push(format!(
                "  {name:width$}  {:>7.1} tokens per prompt, longest {}{}",
                counts.tokens_per_prompt(),
                counts.longest_prompt,
                remarks(counts)
            ));
        }
    }
    for case in prompts.iter().filter(|it| it.key.example == 0) {
        lines.push(String::new());
        lines.extend(join_lines(plan, case));
    }
    if 0 < n_prompts {
        for case in prompts {
            lines.push(String::new());
            lines.extend(prompt_lines(plan, case));
        }
    }
    lines.join("\n") + "\n"
}

/// Sentences below the plan: what is often a slip, what the gates need.
fn below(sentences: &[String]) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    let width = Stream::Stdout.width();
    let lines: Vec<String> = sentences.iter().map(|it| wrap(it, width, "  ")).collect();
    format!("\n{}\n", lines.join("\n"))
}

fn remarks(counts: &Counts) -> String {
    let counted = [
        (counts.n_boundary_merges, "prompts merge with the target"),
        (counts.n_dropped_shots, "prompts lose shots"),
        (counts.n_truncated, "prompts are cut"),
    ];
    let counted = counted.into_iter().filter(|it| 0 < it.0);
    let mut remarks: Vec<String> = counted.map(|(n, what)| format!(", {n} {what}")).collect();
    if let Some(failure) = counts.first_failure.as_deref().map(escape::line) {
        remarks.push(format!(
            ", {} cannot be scored ({failure})",
            counts.n_failed
        ));
    }
    remarks.concat()
}

/// The smallest difference in accuracy that this many examples can show.
fn forecast(plan: &Plan) -> String {
    let primary: Option<MetricName> = plan.experiment.spec.metric(&plan.primary());
    let is_share = matches!(
        primary,
        Some(
            MetricName::Acc
                | MetricName::AccNorm
                | MetricName::AccBytes
                | MetricName::ExactMatch
                | MetricName::Contains
                | MetricName::Regex
                | MetricName::GreedyMatch
        )
    );
    if !is_share || plan.examples.is_empty() {
        return String::new();
    }
    let smallest = stats::smallest_difference(stats::default_spread(), plan.examples.len());
    format!(
        "; {} examples can show a difference of about {:.1} pp (80 % power, if 1 in 10 flips)",
        plan.examples.len(),
        100.0 * smallest
    )
}

/// The border between prompt and scored text of one case, spaces visible.
fn join_lines(plan: &Plan, case: &Case) -> Vec<String> {
    let variant = &plan.variants[case.key.variant];
    let model = &plan.models[case.key.model];
    let example = &plan.examples[case.key.example];
    let heading = format!(
        "{} · {} · example {}",
        model.name,
        variant.name,
        escape::line(&example.id)
    );
    let Some(scored) = case.scored.iter().find(|it| it.is_target) else {
        return vec![
            heading,
            format!("  prompt ends   …{}⟩", visible_tail(&case.prompt, 60)),
        ];
    };
    let default = default_delimiter(&case.prompt, variant.is_chat());
    let delimiter = variant
        .delimiter
        .as_deref()
        .filter(|_| !variant.is_chat())
        .unwrap_or(default);
    let prompt = stripped(&case.prompt);
    let rest = &case.prompt[prompt.len()..];
    let text = format!("{rest}{delimiter}{}", scored.text);
    let mut lines = vec![
        heading,
        format!(
            "  join          …{}⟩⟨{}",
            visible_tail(prompt, 40),
            visible_head(&text, 40)
        ),
    ];
    if let Ok(requests) = &scored.requests {
        lines.push(format!(
            "  scored        {}",
            scored_tokens(plan, case, requests)
        ));
    }
    if let Some(Ok(request)) = case
        .scored
        .first()
        .map(|it| it.requests.as_ref().map(|it| &it[0]))
    {
        lines.push(format!(
            "  first tokens  {}",
            tokens(plan, case, request, true)
        ));
    }
    lines
}

fn scored_tokens(plan: &Plan, case: &Case, requests: &[Request]) -> String {
    let tokenizer = &plan.models[case.key.model].model.tokenizer;
    let scored = requests.iter().flat_map(|request| {
        let Work::Loglikelihood { first_scored } = request.work else {
            return [].iter();
        };
        request.tokens[first_scored..].iter()
    });
    let scored: Vec<String> = scored
        .take(2 * END_TOKENS)
        .map(|id| format!("{}:{id}", visible(&tokenizer.token_text(*id))))
        .collect();
    scored.join(" ")
}

fn tokens(plan: &Plan, case: &Case, request: &Request, is_head: bool) -> String {
    let tokenizer = &plan.models[case.key.model].model.tokenizer;
    let n = request.tokens.len();
    let range = if is_head {
        0..n.min(END_TOKENS)
    } else {
        n.saturating_sub(END_TOKENS)..n
    };
    let shown: Vec<String> = request.tokens[range]
        .iter()
        .map(|id| format!("{}:{id}", visible(&tokenizer.token_text(*id))))
        .collect();
    shown.join(" ")
}

fn prompt_lines(plan: &Plan, case: &Case) -> Vec<String> {
    let variant = &plan.variants[case.key.variant].name;
    let model = &plan.models[case.key.model].name;
    let id = escape::line(&plan.examples[case.key.example].id);
    let mut lines = vec![format!(
        "── {model} · {variant} · {id} · {} tokens",
        case.n_context_tokens
    )];
    lines.extend(
        escape::lines(&case.prompt)
            .into_iter()
            .map(|it| format!("  {it}")),
    );
    if let Some(request) = case.requests().next() {
        lines.push(format!(
            "  first tokens  {}",
            tokens(plan, case, request, true)
        ));
        lines.push(format!(
            "  last tokens   {}",
            tokens(plan, case, request, false)
        ));
    }
    lines
}

/// The text with spaces and line ends made visible, control characters escaped.
fn visible(text: &str) -> String {
    escape::line(&text.replace(' ', "␠").replace('\n', "⏎"))
}

fn visible_tail(text: &str, n: usize) -> String {
    let skip = text.chars().count().saturating_sub(n);
    visible(&text.chars().skip(skip).collect::<String>())
}

fn visible_head(text: &str, n: usize) -> String {
    let head: String = text.chars().take(n).collect();
    let more = if head.len() < text.len() { "…" } else { "" };
    visible(&head) + more
}

fn as_json(
    plan: &Plan,
    counts: &[Vec<Counts>],
    totals: &Totals,
    noticed: &[OfVariant],
) -> serde_json::Value {
    let models = plan.models.iter().zip(counts).map(|(model, of_model)| {
        let variants = plan.variants.iter().zip(of_model).map(|(variant, counts)| {
            json!({
                "variant": variant.name,
                "tokens_per_prompt": counts.tokens_per_prompt(),
                "longest_prompt": counts.longest_prompt,
                "n_boundary_merges": counts.n_boundary_merges,
                "n_dropped_shots": counts.n_dropped_shots,
                "n_truncated": counts.n_truncated,
                "n_failed": counts.n_failed,
                "first_failure": counts.first_failure,
            })
        });
        json!({ "model": model.name, "variants": variants.collect::<Vec<_>>() })
    });
    json!({
        "schema_version": 1,
        "experiment": plan.experiment.spec.experiment.name.as_str(),
        "plan_digest": plan.digest().to_string(),
        "primary": plan.primary(),
        "n_examples": plan.examples.len(),
        "n_cases": plan.n_cases(),
        "n_likelihoods": totals.n_likelihoods,
        "n_generations": totals.n_generations,
        "n_distinct_requests": totals.distinct.len(),
        "n_prior_requests": totals.n_priors(),
        "n_tokens": totals.n_tokens,
        "noticed": plan.variants.iter().zip(noticed).map(|(variant, it)| json!({
            "variant": variant.name,
            "n_end_in_space": it.n_end_in_space,
            "n_contradicted": it.n_contradicted,
        })).collect::<Vec<_>>(),
        "models": models.collect::<Vec<_>>(),
    })
}
