//! Who may name whom: the dependency rules of `ARCHITECTURE.md`, held against the source.
//!
//! The files under `src/` are cut into tokens, so that a comment, a string or a test never
//! counts as code. A rule speaks of library code; the binary (`main.rs`, `cli/`) may name
//! every room and is the only place that prints or ends the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every room with the rooms it may name, which all stand above it: data flows one way.
const MAY_NAME: [(&str, &[&str]); 20] = [
    ("reach", &[]),
    ("parquet", &[]),
    ("experiment", &["reach"]),
    ("dataset", &["parquet"]),
    ("template", &["dataset"]),
    ("model", &["reach", "experiment", "template"]),
    ("request", &[]),
    (
        "plan",
        &[
            "reach",
            "experiment",
            "dataset",
            "template",
            "model",
            "request",
        ],
    ),
    ("engine", &["request", "model"]),
    ("store", &["request"]),
    ("runner", &["plan", "request", "engine", "store"]),
    ("text_metric", &[]),
    ("stats", &[]),
    ("score", &["experiment", "plan", "request", "text_metric"]),
    ("metric", &["experiment", "score", "stats", "text_metric"]),
    ("compare", &["score", "metric", "stats"]),
    ("gate", &["experiment", "metric", "stats", "compare"]),
    ("table", &["parquet", "score", "metric", "stats", "compare"]),
    ("query", &["table"]),
    (
        "report",
        &[
            "score", "metric", "stats", "compare", "gate", "table", "query",
        ],
    ),
];

/// Crates that may be named only below these paths; each path names the crate somewhere.
const CONFINED: [(&str, &[&str]); 19] = [
    ("polars", &["table/", "dataset/parquet.rs"]),
    ("candle_core", &["engine/local/"]),
    // The oracle of tests and the peer of benches: no number of ours comes from it.
    ("candle_transformers", &[]),
    ("pulp", &["engine/local/"]),
    (
        "rayon",
        &["model/weights_file.rs", "engine/", "plan/", "cli/"],
    ),
    ("tokenizers", &["model/tokenizer/"]),
    ("fancy_regex", &["model/tokenizer/"]),
    ("memmap2", &["engine/local/kernel/"]),
    ("rusqlite", &["store.rs", "query.rs"]),
    // Only what fetches opens connections.
    ("ureq", &["model/hub/"]),
    ("sha1", &["model/hub/"]),
    ("minijinja", &["template/", "model/chat/"]),
    // Text comes in and goes out at borders; `is_json` parses one and keeps nothing.
    (
        "serde",
        &[
            "dataset/",
            "model/",
            "table/",
            "report/",
            "text_metric/metric.rs",
        ],
    ),
    ("miette", &["experiment/render.rs"]),
    ("comfy_table", &["report/"]),
    ("quick_junit", &["report/"]),
    ("askama", &["report/html/"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
];

#[test]
fn a_room_names_only_rooms_that_it_may() {
    let mut broken = Vec::new();
    for (path, text) in library() {
        let room = room_of(&path);
        let allowed = MAY_NAME.iter().find(|it| it.0 == room).map(|it| it.1);
        let allowed = allowed.unwrap_or_default();
        let code = Code::of(&text);
        for (name, line) in code.rooms() {
            if name != room && !allowed.contains(&name) {
                broken.push(format!(
                    "src/{path}:{line}: `{room}` may not name `crate::{name}`"
                ));
            }
        }
        for line in code.root_through_super(depth(&path)) {
            broken.push(format!(
                "src/{path}:{line}: `super` leaves the room; write `crate::`"
            ));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn rooms_stand_in_the_order_in_which_data_flows() {
    for (i, (room, names)) in MAY_NAME.iter().enumerate() {
        let above: Vec<&str> = MAY_NAME[..i].iter().map(|it| it.0).collect();
        for name in *names {
            assert!(above.contains(name), "`{name}` stands below `{room}`");
        }
    }
    let sources = sources();
    let code = Code::of(&sources["lib.rs"]);
    let declared: BTreeSet<&str> = code
        .windows::<3>()
        .filter(|(it, _)| it[0] == "mod" && it[2] == ";")
        .map(|(it, _)| it[1])
        .collect();
    let listed: BTreeSet<&str> = MAY_NAME.iter().map(|it| it.0).collect();
    assert_eq!(listed, declared, "the rooms of src/lib.rs");
}

#[test]
fn architecture_shows_the_same_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = fs::read_to_string(path).expect("ARCHITECTURE.md is there");
    let start = text.find("## Who may name whom").expect("the section");
    let section = text[start..].split("\n## ").next().unwrap_or_default();
    let mut shown: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in section.lines().filter(|it| it.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        shown.push((in_backticks(cells[0])[0], in_backticks(cells[1])));
    }
    let held: Vec<(&str, Vec<&str>)> = MAY_NAME.iter().map(|it| (it.0, it.1.to_vec())).collect();
    assert_eq!(shown, held);
}

#[test]
fn only_the_binary_prints_or_exits() {
    let mut broken = Vec::new();
    for (path, text) in library() {
        for (words, line) in Code::of(&text).windows::<3>() {
            let is_print = words[1] == "!"
                && matches!(
                    words[0],
                    "print" | "println" | "eprint" | "eprintln" | "dbg"
                );
            let is_stream = words[0] == "io" && matches!(words[2], "stdout" | "stderr");
            let is_end = words[0] == "process" && matches!(words[2], "exit" | "abort");
            if is_print || (words[1] == "::" && (is_stream || is_end)) {
                broken.push(format!("src/{path}:{line}: `{}`", words.concat()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the library returns values; the binary shows them:\n{}",
        broken.join("\n")
    );
}

/// The database of advisories is not reachable from every machine, so that the workflow is the
/// one place that asks for them; and an action is as much code as a crate.
#[test]
fn the_workflow_asks_for_advisories_and_trusts_no_tag() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows/ci.yml");
    let workflow = fs::read_to_string(path).unwrap();
    let has = |line: &str| workflow.lines().filter(|it| it.trim() == line).count();
    assert_eq!(has("run: cargo deny --locked check advisories"), 1);
    assert_eq!(has("- run: .ci/run"), 1);
    assert_eq!((has("pull_request:"), has("schedule:")), (1, 1));
    assert!(workflow.contains("\npermissions:\n  contents: read\n\n"));
    assert!(!workflow.contains("secrets."));
    let uses = workflow.lines().filter_map(|it| it.split_once("uses: "));
    let commits: Vec<&str> = uses
        .filter_map(|it| Some(it.1.split_once('@')?.1))
        .collect();
    assert!(!commits.is_empty());
    for commit in commits {
        let (commit, _version) = commit.split_once(" # v").unwrap();
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(commit.len() == 40 && commit.chars().all(is_hex), "{commit}");
    }
}

#[test]
fn a_crate_stays_behind_its_room() {
    let sources = sources();
    let mut broken = Vec::new();
    for (name, places) in CONFINED {
        let mut idle: BTreeSet<&str> = places.iter().copied().collect();
        for (path, text) in &sources {
            let lines = Code::of(text).lines_naming_crate(name);
            let Some(line) = lines.first() else { continue };
            match places.iter().find(|it| path.starts_with(**it)) {
                Some(place) => {
                    idle.remove(place);
                }
                None => broken.push(format!("src/{path}:{line}: `{name}` has no place here")),
            }
        }
        broken.extend(
            idle.iter()
                .map(|it| format!("nothing in src/{it} names `{name}`")),
        );
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A scanner that saw nothing would let every rule pass.
#[test]
fn the_scanner_sees_code_and_only_code() {
    let source = r##"
//! crate::comment, [`crate::link`]
use crate::seen::{A, b::B};
/* crate::block /* crate::nested */ crate::block */
const TEXT: &str = "crate::text \" crate::text";
const RAW: &str = r#"crate::raw " crate::raw"#;
const SIGN: [char; 3] = ['"', '\'', '\u{22}'];
fn life<'a>(it: &'a crate::also::It) {}
#[cfg(test)]
pub(crate) mod elsewhere;
mod inner {
    use super::super::up;
    pub(in crate::within) fn f() { println!("{}", polars::x()); }
}
#[cfg(test)]
#[expect(lint, reason = "it is so")]
mod tests {
    use crate::hidden::{C, D};
    fn nested() { let it = crate::hidden::E { f: [1; 2] }; }
}
use crate::last::Z;
"##;
    let code = Code::of(source);
    let rooms = [("seen", 3), ("also", 8), ("within", 13), ("last", 21)];
    assert_eq!(code.rooms(), rooms);
    assert_eq!(code.test_modules, ["elsewhere"]);
    // Two steps up lead from the inline module to the file's parent: the root for a file at
    // depth 1, a room's own module for a deeper one.
    assert_eq!(code.root_through_super(1), [12]);
    assert!(code.root_through_super(2).is_empty());
    assert_eq!(code.lines_naming_crate("polars"), [13]);
    assert!(code.lines_naming_crate("seen").is_empty());
    let prints = code
        .windows::<3>()
        .any(|(it, _)| it[..2] == ["println", "!"]);
    assert!(prints);
}

#[test]
fn a_file_knows_its_room_and_its_depth() {
    for (path, room, expected) in [
        ("score.rs", "score", 1),
        ("table/mod.rs", "table", 1),
        ("table/parquet.rs", "table", 2),
        ("engine/local/mod.rs", "engine", 2),
        ("engine/local/ops.rs", "engine", 3),
    ] {
        assert_eq!((room_of(path), depth(path)), (room, expected), "{path}");
    }
    assert_eq!(module_folder("table/mod.rs"), "table/");
    assert_eq!(module_folder("model/gguf.rs"), "model/gguf/");
}

/// The words between backticks.
fn in_backticks(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The room that a file under `src/` belongs to.
fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// How many modules lead from the crate's root to that of a file, itself included.
fn depth(path: &str) -> usize {
    path.split('/').count() - usize::from(path.ends_with("/mod.rs"))
}

/// Where the modules lie that a file declares without a body.
fn module_folder(path: &str) -> String {
    let stem = path.strip_suffix("mod.rs");
    stem.map_or_else(|| path.replace(".rs", "/"), str::to_owned)
}

/// The library's files but for its root, without those that only tests see.
fn library() -> BTreeMap<String, String> {
    let mut sources = sources();
    let mut hidden = Vec::new();
    for (path, text) in &sources {
        for module in Code::of(text).test_modules {
            hidden.push(format!("{}{module}", module_folder(path)));
        }
    }
    sources.retain(|path, _| {
        let is_hidden = hidden
            .iter()
            .any(|it| *path == format!("{it}.rs") || path.starts_with(&format!("{it}/")));
        let is_binary = path == "main.rs" || path.starts_with("cli/");
        !is_hidden && !is_binary && path != "lib.rs"
    });
    assert!(100 <= sources.len(), "only {} files found", sources.len());
    sources
}

/// Every file under `src/`: its path below, with `/`, and its text.
fn sources() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    collect(&root, "", &mut files);
    files
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a source in UTF-8");
            files.insert(format!("{prefix}{name}"), text);
        }
    }
}

/// One word or sign of the source.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// From 1.
    line: usize,
    /// Inline modules around it.
    n_modules: usize,
}

/// What a file holds outside of comments, literals and tests.
#[derive(Debug, Default)]
struct Code<'a> {
    tokens: Vec<Token<'a>>,
    /// Modules in files of their own that only tests see.
    test_modules: Vec<&'a str>,
}

impl<'a> Code<'a> {
    fn of(source: &'a str) -> Self {
        const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let all = tokens(source);
        let mut code = Self::default();
        // For each open brace, whether it is a module's.
        let mut braces = Vec::new();
        let mut i = 0;
        while let Some(token) = all.get(i) {
            if all[i..].iter().map(|it| it.text).take(TEST.len()).eq(TEST) {
                let item = i + TEST.len();
                i = end_of_item(&all, item);
                if let [.., keyword, name, end] = &all[item..i]
                    && (keyword.text, end.text) == ("mod", ";")
                {
                    code.test_modules.push(name.text);
                }
                continue;
            }
            match token.text {
                "{" => braces.push(2 <= i && all[i - 2].text == "mod"),
                "}" => {
                    braces.pop();
                }
                _ => {}
            }
            let n_modules = braces.iter().filter(|it| **it).count();
            code.tokens.push(Token {
                n_modules,
                ..*token
            });
            i += 1;
        }
        code
    }

    /// Every `N` neighbouring words, with the line of the first.
    fn windows<const N: usize>(&self) -> impl Iterator<Item = ([&'a str; N], usize)> {
        let n = (self.tokens.len() + 1).saturating_sub(N);
        (0..n).map(move |i| {
            let words = std::array::from_fn(|k| self.tokens[i + k].text);
            (words, self.tokens[i].line)
        })
    }

    /// What follows `crate::`, with its line; a brace where several paths are named at once,
    /// which no rule allows.
    fn rooms(&self) -> Vec<(&'a str, usize)> {
        self.windows::<3>()
            .filter(|(it, _)| it[..2] == ["crate", "::"])
            .map(|(it, line)| (it[2], line))
            .collect()
    }

    /// Lines with a path that `super` leads to the crate's root, in a file that deep.
    fn root_through_super(&self, file_depth: usize) -> Vec<usize> {
        let starts = (0..self.tokens.len()).filter(|i| {
            let steps = self.tokens[*i..]
                .chunks_exact(2)
                .take_while(|it| (it[0].text, it[1].text) == ("super", "::"))
                .count();
            0 < steps && file_depth + self.tokens[*i].n_modules <= steps
        });
        starts.map(|i| self.tokens[i].line).collect()
    }

    /// Lines with a path that begins with the crate.
    fn lines_naming_crate(&self, name: &str) -> Vec<usize> {
        let starts = (0..self.tokens.len().saturating_sub(1)).filter(|i| {
            let is_path = self.tokens[*i].text == name && self.tokens[i + 1].text == "::";
            is_path && (*i == 0 || self.tokens[i - 1].text != "::")
        });
        starts.map(|i| self.tokens[i].line).collect()
    }
}

/// Where the item that begins at `from` ends: behind its body or its semicolon.
fn end_of_item(tokens: &[Token<'_>], from: usize) -> usize {
    let mut n_open = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        match token.text {
            "(" | "[" | "{" => n_open += 1,
            ")" | "]" | "}" => n_open = n_open.saturating_sub(1),
            _ => {}
        }
        if n_open == 0 && matches!(token.text, "}" | ";") {
            return i + 1;
        }
    }
    tokens.len()
}

/// Words and signs of Rust source, without comments and literals.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while !rest.is_empty() {
        let (n_bytes, is_code) = piece(rest);
        let (text, after) = rest.split_at(n_bytes);
        if is_code {
            tokens.push(Token {
                text,
                line,
                n_modules: 0,
            });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Bytes of the word, sign, blank, comment or literal at the start, and whether it is code.
fn piece(rest: &str) -> (usize, bool) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = rest.len() - rest.trim_start_matches(is_word).len();
    let first = rest.chars().next().unwrap_or(' ');
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if let Some(n_bytes) = string(rest, word).or_else(|| character(rest)) {
        (n_bytes, false)
    } else if 0 < word {
        (word, true)
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace())
    }
}

/// Bytes of a block comment with those inside it.
fn block_comment(rest: &str) -> usize {
    let mut n_open = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            n_open += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            n_open -= 1;
            at += 2;
            if n_open == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Bytes of the string literal at the start, whose prefix has `word` bytes.
fn string(rest: &str, word: usize) -> Option<usize> {
    let (prefix, opening) = rest.split_at(word);
    let n_hashes = match prefix {
        "" | "b" | "c" => 0,
        "r" | "br" | "cr" => opening.len() - opening.trim_start_matches('#').len(),
        _ => return None,
    };
    let text = opening[n_hashes..].strip_prefix('"')?;
    let n_bytes = if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(n_hashes));
        text.find(&end)? + end.len()
    } else {
        through(text, '"')?
    };
    Some(rest.len() - text.len() + n_bytes)
}

/// Bytes of the character literal at the start; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let text = rest.strip_prefix('\'')?;
    let first = text.chars().next()?;
    if first == '\\' {
        return through(text, '\'').map(|it| 1 + it);
    }
    let is_closed = text[first.len_utf8()..].starts_with('\'');
    is_closed.then(|| 2 + first.len_utf8())
}

/// Bytes up to and with the first `quote` that no backslash escapes.
fn through(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (i, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return Some(i + c.len_utf8());
        }
    }
    None
}
