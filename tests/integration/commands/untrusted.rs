//! What an experiment file from a stranger may touch: what it may read, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Bench, Ended, PHRASES};

/// A bench whose experiment lies in a folder of its own, beside the model and the data.
fn bench_in_a_folder() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("own")).unwrap();
    for file in ["phrases.jsonl", "phrases.train.jsonl"] {
        std::fs::copy(bench.path(file), bench.path(&format!("own/{file}"))).unwrap();
    }
    copy_folder(&bench.path("tiny-llama"), &bench.path("own/tiny-llama"));
    let gguf = "tests/fixtures/models/tiny-llama.gguf";
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join(gguf);
    std::fs::copy(gguf, bench.path("tiny.gguf")).unwrap();
    bench
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The folder that the message says to allow.
fn folder_to_allow(refused: &Ended) -> String {
    let said = refused.stderr.replace('\n', " ");
    let (_, flag) = said
        .split_once("--allow-path ")
        .unwrap_or_else(|| panic!("{said}"));
    let end = flag.find(['`', ' ']).unwrap();
    flag[..end].to_owned()
}

/// Writes `own/x.toml` with one thing changed, which must be refused, and allowed by the very
/// flag that the refusal names.
fn refused_then_allowed(bench: &Bench, from: &str, to: &str, folder: &Path) {
    assert!(PHRASES.contains(from), "{from}");
    bench.write("own/x.toml", &PHRASES.replace(from, to));
    let refused = bench.harness("plan own/x.toml --offline");
    assert_eq!(refused.code, Some(2), "{to}: {}", refused.stderr);
    assert_eq!(refused.stdout, "", "{to}");
    // Where lines break depends on the path.
    let said = refused
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        said.contains("lies outside the experiment's folder"),
        "{to}: {said}"
    );
    let allowed = folder_to_allow(&refused);
    assert_eq!(
        Path::new(&allowed),
        folder.canonicalize().unwrap(),
        "{to}: {}",
        refused.stderr
    );
    bench.ok(&format!(
        "plan own/x.toml --offline -q --allow-path {allowed}"
    ));
}

#[cfg(unix)]
#[test]
fn models_lie_in_the_folder_or_where_the_command_line_allows() {
    use std::os::unix::fs::symlink;
    let bench = bench_in_a_folder();
    bench.write("own/x.toml", PHRASES);
    bench.ok("plan own/x.toml --offline -q");
    symlink(bench.path("tiny-llama"), bench.path("own/linked")).unwrap();
    symlink(bench.path("tiny.gguf"), bench.path("own/linked.gguf")).unwrap();
    let model = bench.path("tiny-llama");
    for source in [
        "../tiny-llama".to_owned(),
        "./tiny-llama/../../tiny-llama".to_owned(),
        bench.path("tiny-llama").display().to_string(),
        "./linked".to_owned(),
    ] {
        refused_then_allowed(&bench, "./tiny-llama", &source, &model);
    }
    let folder = bench.folder.path();
    refused_then_allowed(&bench, "./tiny-llama", "../tiny.gguf", folder);
    refused_then_allowed(&bench, "./tiny-llama", "./linked.gguf", folder);
    // A folder inside, of which one file is elsewhere: each is looked at.
    for file in ["tokenizer.json", "model.safetensors", "config.json"] {
        let inside = bench.path("own/tiny-llama").join(file);
        std::fs::remove_file(&inside).unwrap();
        symlink(model.join(file), &inside).unwrap();
        refused_then_allowed(&bench, "./tiny-llama", "./tiny-llama/", &model);
        std::fs::remove_file(&inside).unwrap();
        std::fs::copy(model.join(file), &inside).unwrap();
    }
    // The caches are where models are.
    bench.write(
        "own/x.toml",
        &PHRASES.replace("./tiny-llama", "../tiny-llama"),
    );
    for variable in ["HARNESS_MODELS", "HF_HUB_CACHE"] {
        let mut command = bench.command("plan own/x.toml --offline -q");
        let ended = Ended::from(command.env(variable, &model).output().unwrap());
        assert_eq!(ended.code, Some(0), "{variable}: {}", ended.stderr);
    }
    // What the user types is no stranger's.
    bench.ok("models info ./own/../tiny.gguf");
}

#[cfg(unix)]
#[test]
fn data_and_prompts_lie_in_the_folder_or_where_the_command_line_allows() {
    use std::os::unix::fs::symlink;
    let bench = bench_in_a_folder();
    std::fs::create_dir(bench.path("other")).unwrap();
    let prompt = bench.path("other/prompt.jinja");
    std::fs::write(&prompt, "{{ en }} =").unwrap();
    std::fs::copy(bench.path("phrases.jsonl"), bench.path("other/x.jsonl")).unwrap();
    symlink(bench.path("other/x.jsonl"), bench.path("own/linked.jsonl")).unwrap();
    symlink(bench.path("other"), bench.path("own/folder")).unwrap();
    let other = bench.path("other");
    let dataset = "path = \"phrases.jsonl\"";
    for path in ["linked.jsonl", "folder/x.jsonl", "../other/x.jsonl"] {
        let path = format!("path = \"{path}\"");
        refused_then_allowed(&bench, dataset, &path, &other);
    }
    let absolute = format!("path = \"{}\"", bench.path("other/x.jsonl").display());
    refused_then_allowed(&bench, dataset, &absolute, &other);
    let pool = "path = \"../phrases.train.jsonl\"";
    let own_pool = "path = \"phrases.train.jsonl\"";
    refused_then_allowed(&bench, own_pool, pool, bench.folder.path());
    let template = "template = \"{{ en }}\\nFrench:\"";
    let file = "file = \"folder/prompt.jinja\"";
    refused_then_allowed(&bench, template, file, &other);
}

/// Every command that opens a model or data for an experiment file asks.
#[test]
fn every_command_refuses_what_lies_outside_and_takes_the_flag() {
    let bench = bench_in_a_folder();
    let gate = "[[gates]]\nmetric = \"loglikelihood\"\nmin = -1e9\n";
    let text = PHRASES.replace("./tiny-llama", "../tiny-llama") + gate;
    bench.write("own/x.toml", &text);
    for (words, code) in [
        ("plan own/x.toml", 0),
        ("try own/x.toml --variant bare", 0),
        ("run own/x.toml -q --limit 2", 4),
        ("check own/x.toml -q --limit 2 --against own/x.toml", 4),
    ] {
        let refused = bench.harness(words);
        assert_eq!(refused.code, Some(2), "{words}: {}", refused.stderr);
        let allowed = folder_to_allow(&refused);
        let ended = bench.harness(&format!("{words} --allow-path {allowed}"));
        assert_eq!(ended.code, Some(code), "{words}: {}", ended.stderr);
        // One that is not there allows nothing, so it is a slip.
        let slip = bench.harness(&format!("{words} --allow-path {allowed}-2"));
        assert_eq!(slip.code, Some(2), "{words}");
        assert!(slip.stderr.contains("-2`: "), "{words}: {}", slip.stderr);
    }
}

/// All files below `folder` but those of `left_out`, with their bytes.
fn files_below(folder: &Path, left_out: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if left_out.contains(&name) {
                continue;
            }
            if path.is_dir() {
                files.insert(path.clone(), Vec::new());
                folders.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn nothing_is_written_outside_the_folder_of_results() {
    let bench = bench_in_a_folder();
    let home = bench.path("home");
    std::fs::create_dir(&home).unwrap();
    let gate = "[[gates]]\nmetric = \"loglikelihood\"\nmin = -1e9\n";
    bench.write("own/x.toml", &(PHRASES.to_owned() + gate));
    let before = files_below(bench.folder.path(), &[]);
    for words in [
        "run own/x.toml -q --tokens --out out",
        "check own/x.toml -q --out out --against latest",
        "plan own/x.toml --out out",
        "try own/x.toml --variant few --generate",
        "show --out out",
    ] {
        let mut command = bench.command(words);
        // Places that programs like to write to.
        for variable in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, &home);
        }
        let ended = Ended::from(command.output().unwrap());
        let is_run = words.starts_with("run") || words.starts_with("check");
        let expected = if is_run {
            [Some(4), Some(0)]
        } else {
            [Some(0); 2]
        };
        assert!(expected.contains(&ended.code), "{words}: {}", ended.stderr);
    }
    let after = files_below(bench.folder.path(), &["out"]);
    let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    assert!(after == before, "a file outside was changed");
    assert!(bench.path("out/phrases").is_dir());
}

/// No key takes the name of a variable, and no text is filled in from one.
#[test]
fn an_experiment_sees_no_environment_variables() {
    let bench = bench_in_a_folder();
    let secret = "hunter2-hunter2";
    let ask = |text: &str| {
        bench.write("own/x.toml", text);
        let mut command = bench.command("plan own/x.toml --offline --prompts 1");
        let ended = Ended::from(command.env("SECRET", secret).output().unwrap());
        assert!(
            !ended.stdout.contains(secret) && !ended.stderr.contains(secret),
            "{text}"
        );
        ended
    };
    // Texts stay texts.
    for text in ["$SECRET", "${SECRET}", "%SECRET%", "$(echo $SECRET)"] {
        let template = format!("template = \"{text} {{{{ en }}}}\"");
        let text_of_file = PHRASES.replace("template = \"{{ en }}\\nFrench:\"", &template);
        assert_ne!(text_of_file, PHRASES);
        let ended = ask(&text_of_file);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains(text), "{}", ended.stdout);
    }
    // Names are those of the data, and paths are paths.
    for (from, to) in [
        ("{{ en }}\\nFrench:", "{{ SECRET }}"),
        ("{{ en }}\\nFrench:", "{{ env.SECRET }}"),
        ("{{ en }}\\nFrench:", "{{ environ['SECRET'] }}"),
        ("{{ en }}\\nFrench:", "{{ getenv('SECRET') }}"),
        ("\"phrases.jsonl\"", "\"$SECRET\""),
        ("\"./tiny-llama\"", "\"./$SECRET\""),
        ("[dataset]", "[env]\nSECRET = \"x\"\n[dataset]"),
    ] {
        assert!(PHRASES.contains(from), "{from}");
        let ended = ask(&PHRASES.replacen(from, to, 1));
        assert_eq!(ended.code, Some(2), "{to}: {}", ended.stderr);
    }
}

/// Whoever may write to the store may put any answer into it.
#[cfg(unix)]
#[test]
fn a_store_that_everyone_may_write_to_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    let bench = Bench::new();
    let told = |mode: &[(&str, u32)]| {
        for (place, mode) in mode {
            let rights = std::fs::Permissions::from_mode(*mode);
            std::fs::set_permissions(bench.path(place), rights).unwrap();
        }
        let mut command = bench.command("run phrases.toml -q --variant bare --out out");
        let ended = Ended::from(command.output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let said = ended.stderr.split_whitespace().collect::<Vec<&str>>();
        said.join(" ")
    };
    assert_eq!(told(&[]), "");
    let store = "out/.store/responses.sqlite3";
    // The sticky bit keeps others off the files that are there.
    assert_eq!(told(&[("out", 0o1777)]), "");
    for (place, mode) in [(store, 0o666), ("out/.store", 0o777), ("out", 0o777)] {
        let said = told(&[(place, mode)]);
        let warning = format!("warning: everyone on this machine may write to `{place}`");
        assert!(said.starts_with(&warning), "{said}");
    }
    let closed = [("out", 0o755), ("out/.store", 0o755), (store, 0o644)];
    assert_eq!(told(&closed), "");
}
