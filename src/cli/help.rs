//! The longer texts of `--help`: promise, examples, exit codes, environment.

/// What the program is for, in one line.
pub(super) const PROMISE: &str =
    "Which of these prompts is better, by how much, and is the difference real?";

/// Below the short help.
pub(super) const EXAMPLES: &str = "\
Examples:
  harness init demo                    write a small experiment with data
  harness run demo/sentiment.toml      measure and compare its prompts
  harness show --failures              see where they went wrong

`harness --help` explains exit codes and environment variables.";

/// Below the long help.
pub(super) const LONG: &str = "\
Examples:
  harness init demo                    write a small experiment with data
  harness plan demo/sentiment.toml     check it and see its prompts, without a model's weights
  harness run demo/sentiment.toml      measure and compare its prompts
  harness show --failures              see where they went wrong

Results go to stdout, everything else to stderr.

Exit codes:
  0    done; every gate passed, or was not evaluated because there is no baseline yet
  1    a gate failed: regressed or below its floor
  2    the command line, the experiment file or an input was refused; nothing ran
  3    incomplete: more cases without a score than allowed; what was scored is kept
  4    no gate failed, but one is inconclusive and says that fails
  130  interrupted (Ctrl-C); what was scored is kept
  143  terminated; what was scored is kept
Of several, the first of 130, 143, 2, 3, 1, 4, 0 counts.

Environment:
  HARNESS_RESULTS  folder of runs and stored responses, where --out is not given
  HARNESS_MODELS   folder of the model cache
                   [default: prompt-harness/models in the user's cache folder]
  NO_COLOR         if not empty, nothing is coloured
  CLICOLOR_FORCE   if neither empty nor 0, colours even where the output is no terminal
  TERM             `dumb`: no colours and no progress bars";

pub(super) const RUN: &str = "\
Examples:
  harness run sentiment.toml
  harness run sentiment.toml translate.toml --limit 20
  harness run translate.toml --variant 'few*' --set generation.max_tokens=16
  harness run sentiment.toml --profile full --out nightly

Responses are stored as they come. After an interruption the same command goes on where it
stopped; after an edit only what changed is computed.";

pub(super) const CHECK: &str = "\
Examples:
  harness check sentiment.toml
  harness check sentiment.toml --against latest
  harness check sentiment.toml --against ../main/sentiment.toml

Every [[gates]] table of the file is one check per model and variant that it covers. Where BASE is
an experiment file, such as the one of the base branch, it is run first by this same program, and
its gates decide: an edited threshold never judges itself.";

pub(super) const COMPARE: &str = "\
Examples:
  harness compare latest~1 latest
  harness compare main latest
  harness compare latest:bare latest:few

A is the reference, B is judged: a gain is B's.";

pub(super) const BASELINE: &str = "\
Examples:
  harness baseline save main
  harness baseline save main 20260101-120000-abcd
  harness baseline list

A baseline is a small file of numbers without texts, made to be committed:
results/baselines/EXPERIMENT/NAME.json.";

pub(super) const PLAN: &str = "\
Examples:
  harness plan sentiment.toml
  harness plan sentiment.toml --prompts 1 --variant few";

pub(super) const TRY: &str = "\
Examples:
  harness try translate.toml --variant few
  harness try translate.toml --variant bare --example t-004 --generate
  harness try translate.toml --variant bare --set en='Good night.'";

pub(super) const SHOW: &str = "\
Examples:
  harness show
  harness show --failures
  harness show sentiment/latest --example r-064
  harness show latest~1 --prompts --json";

pub(super) const REPORT: &str = "\
Examples:
  harness report
  harness report sentiment/latest sentiment/latest~1 -o review.html
  harness report -o - > review.html

The file holds all prompts, targets and generations of its runs. It needs nothing else, and
opened in a browser it loads and sends nothing.";

pub(super) const QUERY: &str = "\
Tables: cases, choices, examples, metrics, comparisons, tokens (of runs with --tokens), runs.
Every table has the columns experiment and run; README.md describes the rest.

Examples:
  harness query \"SELECT run, variant, value FROM metrics WHERE metric = 'acc'\"
  harness query --run latest \"SELECT variant, avg(loglikelihood) FROM cases GROUP BY variant\"
  harness query --json \"SELECT * FROM runs ORDER BY run DESC LIMIT 5\"";

pub(super) const INIT: &str = "\
Examples:
  harness init demo
  harness init --ci github

The workflow lists the experiments with [[gates]] in DIR and in the folders in it. It runs each one
as the base branch has it and as the pull request has it, and lets the base branch's gates decide;
it uses no secrets. Say in it where harness is built from before you commit it.

Nothing that exists is ever overwritten.";

pub(super) const SCHEMA: &str = "\
Example:
  harness schema > experiment.schema.json

An editor completes and checks an experiment file whose first line is
`#:schema ./experiment.schema.json`.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  harness completions bash > ~/.local/share/bash-completion/completions/harness
  harness completions zsh > ~/.zfunc/_harness
  harness completions fish > ~/.config/fish/completions/harness.fish";

pub(super) const MODELS_PULL: &str = "\
Examples:
  harness models pull smollm2-135m-instruct
  harness models pull hf:OWNER/REPO@main

`harness run` fetches what it needs by itself; this is for machines that are offline later.

A model on the hub goes into the cache that Hugging Face's own tools use. HF_HOME, HF_HUB_CACHE,
HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, HF_HUB_OFFLINE, HTTPS_PROXY and NO_PROXY mean what they mean
there.";

pub(super) const MODELS_INFO: &str = "\
Examples:
  harness models info builtin:smollm2-135m-instruct
  harness models info ./checkpoints/step-2000";
