//! `harness init --ci github`: the workflow it writes, executed.
//!
//! Every `run` block is put through bash as a runner of GitHub would, in order, in the
//! checkout of a pull request merged into its base branch, with the variables a runner
//! sets. What stays untested are the actions (`uses`): checkout is done by the test, and
//! caches and artifacts are left out. `harness` is on the path, so nothing is installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bench, COLOURS};

const WORKFLOW: &str = ".github/workflows/prompts.yml";

/// On twelve examples only an edit that changes nothing passes; so all else is seen.
const GATE: &str = "
[[gates]]
metric = \"acc\"
compare = \"baseline\"
max_drop = 0.05
";

/// One step of the workflow.
#[derive(Debug, Default)]
struct Step {
    name: String,
    uses: Option<String>,
    /// The condition, if it has one.
    condition: Option<String>,
    /// The script, without its indentation.
    script: Option<String>,
}

/// The steps of a workflow that is laid out as ours is: a list of names at six columns, keys
/// at eight, scripts at ten.
fn steps(workflow: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_script = false;
    for line in workflow.lines() {
        if let Some(name) = line.strip_prefix("      - name: ") {
            steps.push(Step {
                name: name.to_owned(),
                ..Step::default()
            });
            is_script = false;
            continue;
        }
        let Some(step) = steps.last_mut() else {
            continue;
        };
        let key = line
            .strip_prefix("        ")
            .filter(|it| !it.starts_with(' '));
        if let Some(key) = key {
            is_script = key == "run: |";
            assert!(
                is_script || !key.starts_with("run:"),
                "{key}: not a block of lines"
            );
            if is_script {
                step.script = Some(String::new());
            } else if let Some(uses) = key.strip_prefix("uses: ") {
                step.uses = Some(uses.to_owned());
            } else if let Some(condition) = key.strip_prefix("if: ") {
                step.condition = Some(condition.to_owned());
            }
        } else if let Some(script) = step.script.as_mut().filter(|_| is_script) {
            script.push_str(line.strip_prefix("          ").unwrap_or_default());
            script.push('\n');
        }
    }
    steps
}

/// The lines below `EXPERIMENTS: |`.
fn experiments(workflow: &str) -> Vec<String> {
    let lines = workflow
        .lines()
        .skip_while(|it| *it != "  EXPERIMENTS: |")
        .skip(1);
    let lines = lines.map_while(|it| it.strip_prefix("    "));
    lines.map(str::to_owned).collect()
}

/// A repository with an experiment and its workflow on `main`, and a checkout of it.
struct Repository {
    origin: Bench,
    /// Checkout, home and the runner's temporary folder.
    runner: tempfile::TempDir,
}

/// What a job did.
struct Job {
    has_failed: bool,
    /// What the steps that ran wrote, by their names.
    said: BTreeMap<String, String>,
    reports: PathBuf,
    summary: String,
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org"])
        .args(words)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Repository {
    fn new() -> Self {
        let origin = Bench::new();
        std::fs::remove_file(origin.path("phrases.toml")).unwrap();
        origin.write("colours.toml", &format!("{COLOURS}{GATE}"));
        origin.write(".gitignore", "results/*\n!results/baselines/\n");
        let folder = origin.folder.path();
        git(folder, &["init", "--quiet", "--initial-branch=main"]);
        let said = origin.ok("init --ci github");
        assert!(said.contains("  colours.toml\n"), "{said}");
        let repository = Self {
            origin,
            runner: tempfile::tempdir().unwrap(),
        };
        repository.commit("Check prompts");
        repository
    }

    /// Commits everything in the origin, on the branch it is on.
    fn commit(&self, title: &str) {
        let folder = self.origin.folder.path();
        git(folder, &["add", "--all"]);
        git(folder, &["commit", "--quiet", "--message", title]);
    }

    /// Makes a branch with an edit, and then a commit on `main` that the edit does not know;
    /// checks out the branch merged into what `main` was before, as a runner does.
    fn check_out(&self, edit: impl FnOnce(&Bench)) -> PathBuf {
        let folder = self.origin.folder.path();
        git(folder, &["checkout", "--quiet", "-b", "edit"]);
        edit(&self.origin);
        self.commit("Edit");
        git(folder, &["checkout", "--quiet", "--detach", "main"]);
        git(
            folder,
            &["merge", "--quiet", "--no-ff", "--no-edit", "edit"],
        );
        git(folder, &["branch", "pull"]);
        git(folder, &["checkout", "--quiet", "main"]);
        let other = COLOURS.replace("Small or large?", "Large or small?");
        self.origin.write("colours.toml", &format!("{other}{GATE}"));
        self.commit("Change something else meanwhile");
        let workspace = self.runner.path().join("workspace");
        let (from, to) = (folder.to_str().unwrap(), workspace.to_str().unwrap());
        git(folder, &["clone", "--quiet", from, to]);
        git(
            &workspace,
            &["checkout", "--quiet", "--detach", "origin/pull"],
        );
        workspace
    }

    /// Executes the workflow of the checkout.
    fn job(&self, workspace: &Path, event: &str) -> Job {
        let workflow = std::fs::read_to_string(workspace.join(WORKFLOW)).unwrap();
        let home = self.runner.path().join("home");
        let temp = self.runner.path().join("temp");
        for folder in [&home, &temp] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let summary = temp.join("summary.md");
        let added = temp.join("env");
        let program = Path::new(env!("CARGO_BIN_EXE_harness")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut job = Job {
            has_failed: false,
            said: BTreeMap::new(),
            reports: temp.join("reports"),
            summary: String::new(),
        };
        for step in steps(&workflow) {
            let is_always = step.condition.as_deref() == Some("always()");
            let Some(script) = step.script.filter(|_| is_always || !job.has_failed) else {
                continue;
            };
            assert!(is_always || step.condition.is_none(), "{}", step.name);
            let file = temp.join("step.sh");
            std::fs::write(&file, script).unwrap();
            let mut command = Command::new("bash");
            command
                .current_dir(workspace)
                .args(["--noprofile", "--norc", "-euo", "pipefail"])
                .arg(&file)
                .env_clear()
                .env("PATH", &path)
                .env("HOME", &home)
                .env("CI", "true")
                .env("GITHUB_ACTIONS", "true")
                .env("GITHUB_EVENT_NAME", event)
                .env("GITHUB_BASE_REF", "main")
                .env("GITHUB_WORKSPACE", workspace)
                .env("GITHUB_ENV", &added)
                .env("GITHUB_PATH", temp.join("path"))
                .env("GITHUB_STEP_SUMMARY", &summary)
                .env("RUNNER_TEMP", &temp)
                .env("HARNESS_SOURCE", "")
                .env("HARNESS_REVISION", "")
                .env("EXPERIMENTS", experiments(&workflow).join("\n") + "\n");
            let lines = std::fs::read_to_string(&added).unwrap_or_default();
            command.envs(lines.lines().map(|it| it.split_once('=').unwrap()));
            let output = command.output().unwrap();
            job.has_failed |= !output.status.success();
            let said = [output.stdout, output.stderr].concat();
            job.said.insert(step.name, String::from_utf8(said).unwrap());
        }
        job.summary = std::fs::read_to_string(&summary).unwrap_or_default();
        job
    }
}

impl Job {
    fn report(&self) -> String {
        std::fs::read_to_string(self.reports.join("report.html")).unwrap()
    }
}

#[test]
fn an_edit_that_changes_no_prompt_passes() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| bench.write("NOTES.md", "more"));
    let job = repository.job(&workspace, "pull_request");
    let said = &job.said["Check the experiments"];
    assert!(!job.has_failed, "{:#?}", job.said);
    assert!(!said.contains("::warning::"), "{said}");
    // What `main` gained meanwhile is not held against the edit, though it does edit a prompt.
    let base = job.reports.parent().unwrap().join("base");
    let fork = git(&workspace, &["rev-parse", "origin/edit~1"]);
    assert_eq!(git(&base, &["rev-parse", "HEAD"]), fork);
    assert_ne!(git(&workspace, &["rev-parse", "origin/main"]), fork);
    let junit = std::fs::read_to_string(job.reports.join("junit-1.xml")).unwrap();
    assert!(
        junit.contains("<testcase") && !junit.contains("<failure"),
        "{junit}"
    );
    assert!(job.summary.contains("acc"), "{}", job.summary);
    // Both sides are in the report: two runs, with their own ids.
    let runs = std::fs::read_dir(workspace.join("results/colours")).unwrap();
    let runs: Vec<String> = runs
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|it| job.report().contains(it)), "{runs:?}");
}

/// The edit takes away a variant, and with it the gate that would say so.
#[test]
fn an_edit_fails_by_the_gates_it_removes_and_is_reported_all_the_same() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| {
        let (without, _) = COLOURS.split_once("[variants.question]").unwrap();
        bench.write("colours.toml", without);
    });
    let job = repository.job(&workspace, "pull_request");
    assert!(job.has_failed);
    let said = &job.said["Check the experiments"];
    assert!(
        said.contains("::error::colours.toml: harness ended with code 1\n"),
        "{said}"
    );
    assert!(said.contains("the base's gates decide") || said.contains("it still decides"));
    let junit = std::fs::read_to_string(job.reports.join("junit-1.xml")).unwrap();
    assert!(junit.contains("<failure"), "{junit}");
    assert!(job.summary.contains("question"), "{}", job.summary);
    assert!(job.report().contains("colours"));
}

#[test]
fn an_experiment_without_a_base_is_run_and_said_to_be_new() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| {
        let new = COLOURS.replace("name = \"colours\"", "name = \"shades\"");
        bench.write("shades.toml", &format!("{new}{GATE}"));
        let workflow = std::fs::read_to_string(bench.path(WORKFLOW)).unwrap();
        let listed = workflow.replace("    colours.toml\n", "    shades.toml\n    colours.toml\n");
        bench.write(WORKFLOW, &listed);
    });
    let job = repository.job(&workspace, "pull_request");
    let said = &job.said["Check the experiments"];
    assert!(!job.has_failed, "{:#?}", job.said);
    assert!(
        said.contains("::warning::shades.toml is not on the base branch"),
        "{said}"
    );
    assert!(!said.contains("::warning::colours.toml"), "{said}");
    assert!(
        !job.reports.join("junit-1.xml").exists(),
        "`run` writes none"
    );
    assert!(job.reports.join("junit-2.xml").exists());
}

/// A push fills the caches that pull requests start from.
#[test]
fn a_push_runs_every_experiment() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| bench.write("NOTES.md", "more"));
    let job = repository.job(&workspace, "push");
    assert!(!job.has_failed, "{:#?}", job.said);
    assert!(!job.said["Check the experiments"].contains("::warning::"));
    assert!(workspace.join("results/.store").is_dir());
    assert!(!job.reports.parent().unwrap().join("base").exists());
}

#[test]
fn a_broken_experiment_does_not_keep_the_others_from_being_checked() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| {
        let workflow = std::fs::read_to_string(bench.path(WORKFLOW)).unwrap();
        let listed = workflow.replace("    colours.toml\n", "    gone.toml\n    colours.toml\n");
        bench.write(WORKFLOW, &listed);
    });
    let job = repository.job(&workspace, "pull_request");
    let said = &job.said["Check the experiments"];
    assert!(job.has_failed);
    assert!(
        said.contains("::error::gone.toml: harness ended with code 2\n"),
        "{said}"
    );
    assert!(job.reports.join("junit-2.xml").exists());
    assert!(!job.reports.join("junit-1.xml").exists());
}

#[test]
fn without_a_source_the_installation_says_what_to_fill_in() {
    let repository = Repository::new();
    let workflow = std::fs::read_to_string(repository.origin.path(WORKFLOW)).unwrap();
    let install = steps(&workflow)
        .into_iter()
        .find(|it| it.name == "Install harness");
    let script = install.unwrap().script.unwrap();
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-euo", "pipefail", "-c"])
        // No program is found, not even one that a developer has installed.
        .arg(format!("PATH=/nonexistent\n{script}"))
        .env("HARNESS_SOURCE", "")
        .env("HARNESS_REVISION", "0123")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("::error::HARNESS_SOURCE and HARNESS_REVISION"),
        "{said}"
    );
}

/// What a stranger names a branch or writes in a title must never be part of a script.
#[test]
fn the_workflow_gives_a_stranger_nothing() {
    let repository = Repository::new();
    let workflow = std::fs::read_to_string(repository.origin.path(WORKFLOW)).unwrap();
    let keys = |key: &str| workflow.lines().filter(|it| it.trim() == key).count();
    assert_eq!(
        (keys("pull_request:"), keys("pull_request_target:")),
        (1, 0)
    );
    assert!(workflow.contains("\npermissions:\n  contents: read\n\n"));
    assert_eq!(keys("permissions:"), 1);
    assert!(!workflow.contains("secrets."));
    let steps = steps(&workflow);
    assert!(8 < steps.len());
    for step in steps {
        match (step.uses, step.script) {
            (None, Some(script)) => assert!(!script.contains("${{"), "{}", step.name),
            (Some(uses), None) => {
                let (_, version) = uses.split_once('@').unwrap();
                let (commit, version) = version.split_once(" # v").unwrap();
                let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                assert!(commit.len() == 40 && commit.chars().all(is_hex), "{uses}");
                assert!(version.split('.').count() == 3, "{uses}");
            }
            other => panic!("{}: {other:?}", step.name),
        }
    }
}

/// Whoever opens a pull request could commit a store with answers of their own.
#[test]
fn stored_answers_of_a_commit_are_not_used() {
    let repository = Repository::new();
    let workspace = repository.check_out(|bench| {
        bench.write(".gitignore", "");
        std::fs::create_dir_all(bench.path("results/.store")).unwrap();
        bench.write("results/.store/responses.sqlite3", "forged");
    });
    let store = workspace.join("results/.store/responses.sqlite3");
    assert_eq!(std::fs::read(&store).unwrap(), b"forged");
    let job = repository.job(&workspace, "pull_request");
    assert!(!job.has_failed, "{:#?}", job.said);
    assert!(
        std::fs::read(&store)
            .unwrap()
            .starts_with(b"SQLite format 3")
    );
}

#[test]
fn a_workflow_is_never_overwritten() {
    let repository = Repository::new();
    let again = repository.origin.harness("init --ci github .");
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    assert!(again.stderr.contains("nothing was written"));
    let nothing = Bench::new();
    let said = nothing.harness("init --ci github");
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("no experiment with gates"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("`colours.toml` is left out"));
    assert_eq!(nothing.harness("init --ci gitlab").code, Some(2));
}
