//! Token ids against the original tokenizers, on 10,000 strings per family.
//!
//! `tests/fixtures/tokenizer/reference.py` writes each family's vocabulary in the forms in
//! which a model brings it (a GGUF header, `tokenizer.json`, `vocab.json` with
//! `merges.txt`) and says which ids tiktoken, sentencepiece or llama.cpp give. It runs with
//! what `tests/references.sh` installs; without it these tests say so and pass.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::experiment::ModelSource;
use harness::model::gguf::Gguf;
use harness::model::tokenizer::{Token, Tokenizer};
use harness::model::{self, OpenOptions};
use harness::plan;
use harness::template::Guarded;
use serde_json::{Value as Json, json};
use unicode_normalization::UnicodeNormalization as _;

use crate::{memo, references};

const N_STRINGS: usize = 10_000;

/// What a family's tokens spell.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    /// The text's bytes.
    Bytes,
    /// The bytes of the composed text (NFC).
    Composed,
    /// The text with a space in front of it, `▁` being a space too.
    Spaced,
}

#[test]
fn gpt_2_ids_equal_tiktoken() {
    let settings = json!({"tokenizer_class": "GPT2Tokenizer"});
    check("gpt2", Spelling::Bytes, Some(&settings));
}

#[test]
fn llama_3_ids_equal_tiktoken() {
    check("llama3", Spelling::Bytes, None);
}

#[test]
fn qwen_2_ids_equal_tiktoken() {
    let token = |text: &str| json!({"content": text, "special": true, "lstrip": false});
    let settings = json!({
        "tokenizer_class": "Qwen2TokenizerFast",
        "bos_token": null,
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>"},
        "unk_token": null,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {
            "151643": token("<|endoftext|>"),
            "151644": token("<|im_start|>"),
            "151645": token("<|im_end|>"),
        },
    });
    check("qwen2", Spelling::Composed, Some(&settings));
}

#[test]
fn tekken_ids_equal_tiktoken() {
    check("tekken", Spelling::Bytes, None);
}

#[test]
fn llama_2_ids_equal_sentencepiece() {
    check("llama2", Spelling::Spaced, None);
}

#[test]
fn mistral_1_ids_equal_sentencepiece() {
    check("mistral-v1", Spelling::Spaced, None);
}

#[test]
fn mistral_3_ids_equal_sentencepiece() {
    check("mistral-v3", Spelling::Spaced, None);
}

#[test]
fn smollm_2_ids_equal_llama_cpp() {
    let Some(references) = References::find("smollm2") else {
        return;
    };
    let source = ModelSource::Builtin("smollm2-135m-instruct".to_owned());
    let model = model::open(&source, &OpenOptions::default(), &mut |_| {}).unwrap();
    let path = &model.files.weights()[0];
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.gguf");
    fs::hard_link(path, &copy)
        .or_else(|_| fs::copy(path, &copy).map(|_| ()))
        .unwrap();
    references.python("make", folder.path(), Stdio::null());
    let json = fs::read(folder.path().join("tokenizer.json")).unwrap();
    let json = Tokenizer::from_json(&json).unwrap();
    let forms = [("GGUF", &*model.tokenizer), ("tokenizer.json", &json)];
    references.compare(folder.path(), Spelling::Bytes, &forms);
    for (form, tokenizer) in forms {
        memo::check(&format!("smollm2, {form}"), tokenizer, true);
    }
}

fn check(family: &'static str, spelling: Spelling, settings: Option<&Json>) {
    let Some(references) = References::find(family) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    references.python("make", folder.path(), Stdio::null());
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let gguf = Tokenizer::from_gguf(&Gguf::parse(&read("model.gguf")).unwrap()).unwrap();
    let json = Tokenizer::from_json(&read("tokenizer.json")).unwrap();
    let pair = settings.map(|settings| {
        Tokenizer::from_vocab_merges(&read("vocab.json"), &read("merges.txt"), settings).unwrap()
    });
    let mut forms = vec![("GGUF", &gguf), ("tokenizer.json", &json)];
    forms.extend(pair.iter().map(|it| ("vocab.json and merges.txt", it)));
    references.compare(folder.path(), spelling, &forms);
    for (form, tokenizer) in forms {
        memo::check(
            &format!("{family}, {form}"),
            tokenizer,
            spelling != Spelling::Spaced,
        );
    }
    check_joins(folder.path(), spelling, &strings(&gguf));
}

/// Prompt and target are told apart whatever the tokenizer makes of the text: where no
/// token lies across the border, the context spells the prompt and the rest the target.
fn check_joins(folder: &Path, spelling: Spelling, strings: &[String]) {
    let source = ModelSource::Path(folder.join("model.gguf"));
    let model = model::open(&source, &OpenOptions::default(), &mut |_| {}).unwrap();
    let written = |text: &str| match spelling {
        Spelling::Bytes => text.to_owned(),
        Spelling::Composed => text.nfc().collect(),
        Spelling::Spaced => text.replace('▁', " "),
    };
    let front = if spelling == Spelling::Spaced {
        " "
    } else {
        ""
    };
    let data = |text: &str| Guarded {
        text: text.to_owned(),
        plain: std::iter::once(0..text.len()).collect(),
    };
    let (mut n_merged, mut n_apart) = (0, 0);
    for pair in strings[..2000].chunks(2) {
        let (prompt, target) = (data(&pair[0]), data(&pair[1]));
        if target.text.is_empty() {
            continue;
        }
        let text = format!("{}{}", prompt.text, target.text);
        let joined = plan::join(&model, &prompt, "", &target).unwrap();
        // BOS, or what stands for an empty context.
        let n_bos = joined.tokens.len() - model.tokenizer.encode_plain(&text).unwrap().len();
        let all = &joined.tokens[n_bos..];
        let first = joined.first_scored - n_bos;
        let decode = |ids: &[u32]| model.tokenizer.decode(ids, false);
        assert_eq!(decode(all), format!("{front}{}", written(&text)));
        if joined.boundary_merge {
            n_merged += 1;
            continue;
        }
        n_apart += 1;
        let border = plan::stripped(&prompt.text).len();
        let before = if first == 0 { front } else { "" };
        let scored = format!("{before}{}", written(&text[border..]));
        assert_eq!(decode(&all[first..]), scored, "{text:?}");
    }
    assert!(0 < n_merged && 500 < n_apart, "{n_merged}, {n_apart}");
}

/// The reference implementations and packages with vocabularies, for one family.
struct References {
    family: &'static str,
    python: PathBuf,
    npm: PathBuf,
}

impl References {
    /// The references, or a line that says why the family is not compared.
    fn find(family: &'static str) -> Option<Self> {
        let modules = [
            "tiktoken",
            "sentencepiece",
            "mistral_common",
            "dashscope",
            "xllamacpp",
            "gguf",
            "numpy",
        ];
        let python = references::python(&modules)?;
        let npm = references::folder().join("npm/node_modules");
        if !npm.is_dir() {
            references::skipped(&format!("{family}, whose vocabulary is not"), &npm);
            return None;
        }
        Some(Self {
            family,
            python,
            npm,
        })
    }

    fn python(&self, what: &str, folder: &Path, strings: Stdio) -> String {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/reference.py");
        let output = Command::new(&self.python)
            .arg(script)
            .args([what, self.family])
            .arg(&self.npm)
            .arg(folder)
            .stdin(strings)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {what}: {errors}", self.family);
        String::from_utf8(output.stdout).unwrap()
    }

    fn compare(&self, folder: &Path, spelling: Spelling, forms: &[(&str, &Tokenizer)]) {
        let first = forms[0].1;
        let strings = strings(first);
        let file = folder.join("strings.jsonl");
        let lines: Vec<String> = strings.iter().map(|it| json!(it).to_string()).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        let answers = self.python("ids", folder, File::open(&file).unwrap().into());
        let answers: Vec<&str> = answers.lines().collect();
        let answers = &answers[answers.len() - strings.len()..];
        let mut n_wrong = 0;
        for (form, tokenizer) in forms {
            for (text, answer) in strings.iter().zip(answers) {
                let answer: Json = serde_json::from_str(answer).unwrap();
                let all = 0..text.len();
                for (mode, plain) in [("plain", std::slice::from_ref(&all)), ("special", &[])] {
                    let tokens = tokenizer.encode(text, plain).unwrap();
                    check_ends(tokenizer, text, &tokens, spelling, mode == "plain");
                    let got: Vec<u32> = tokens.iter().map(|it| it.id).collect();
                    if json!(got) != answer[mode] {
                        n_wrong += 1;
                        if n_wrong <= 20 {
                            println!(
                                "{form}, {mode}: {text:?}\n  got      {got:?}\n  expected {}",
                                answer[mode]
                            );
                        }
                    }
                }
            }
        }
        assert_eq!(n_wrong, 0, "{}: ids that differ", self.family);
        println!(
            "compared: {}, {} strings, as data and with special tokens, in {} forms",
            self.family,
            strings.len(),
            forms.len()
        );
    }
}

/// The ends cover the text, and the tokens spell what lies between them.
fn check_ends(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: &[Token],
    spelling: Spelling,
    is_plain: bool,
) {
    let ids: Vec<u32> = tokens.iter().map(|it| it.id).collect();
    let mut start = 0;
    for token in tokens {
        assert!(start <= token.end, "{text:?}: an end before the last one");
        if spelling == Spelling::Bytes {
            let spelled = tokenizer.token_bytes(token.id);
            assert_eq!(spelled, &text.as_bytes()[start..token.end], "{text:?}");
        }
        start = token.end;
    }
    assert_eq!(start, text.len(), "{text:?}: the ends stop before the text");
    let decoded = tokenizer.decode(&ids, false);
    match spelling {
        Spelling::Bytes => assert_eq!(decoded, text),
        Spelling::Composed => assert_eq!(decoded, text.nfc().collect::<String>()),
        // A space is put in front of every part after a special token as well.
        Spelling::Spaced if is_plain && !text.is_empty() => {
            assert_eq!(decoded, format!(" {}", text.replace('▁', " ")));
        }
        Spelling::Spaced => {}
    }
}

/// `SplitMix64`: the same strings on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        it ^ (it >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn char_in(&mut self, range: Range<u32>) -> char {
        let n = range.start + (self.next() % u64::from(range.end - range.start)) as u32;
        char::from_u32(n).unwrap_or('\u{FFFD}')
    }

    fn repeat(&mut self, text: &str, most: usize) -> String {
        text.repeat(1 + self.below(most))
    }
}

const WORDS: [&str; 40] = [
    "the",
    "The",
    "HELLO",
    "world",
    "tokenizer",
    "naïve",
    "façade",
    "Straße",
    "İstanbul",
    "ﬁne",
    "Привет",
    "мир",
    "Ελλάδα",
    "γειά",
    "שלום",
    "עולם",
    "مرحبا",
    "العالم",
    "नमस्ते",
    "दुनिया",
    "สวัสดี",
    "ชาวโลก",
    "こんにちは",
    "世界",
    "東京都",
    "カタカナ",
    "안녕하세요",
    "세계",
    "你好",
    "中文分词",
    "ქართული",
    "Հայերեն",
    "አማርኛ",
    "ខ្មែរ",
    "မြန်မာ",
    "Tiếng",
    "Việt",
    "camelCaseWord",
    "SCREAMING_SNAKE",
    "x1y2z3",
];
const CODE: [&str; 14] = [
    "fn main() {\n    println!(\"{}\", x);\n}",
    "def f(a, b=None):\n\treturn a**b\n",
    "#include <stdio.h>\r\n",
    "if (a && !b || c >= 10) { i++; }",
    "<div class=\"a\">&nbsp;</div>",
    "SELECT * FROM t WHERE id='x';",
    "{\"k\": [1, 2.5e-3, null]}",
    "https://example.org/a?b=c&d=%20#e",
    "a->b::c.d[0]",
    "// comment\n\n\n",
    "/* ** */",
    "$PATH/${x:-y}",
    "\\n\\t\\u00e9",
    "^[a-z]+\\d*$",
];
const SIGNS: [&str; 26] = [
    "...", "!!!", "?!", "—", "–", "“", "”", "«", "»", "…", "•", "→", "©", "€", "½", "²", "Ⅷ", "٣",
    "१२", "№", "¿", "、", "。", "！", "\u{FFFD}", "\u{FEFF}",
];
const EMOJI: [&str; 9] = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "👩🏿‍🚀", "☺️", "1️⃣", "🧑‍⚖️"];
const MARKS: [&str; 10] = [
    "e\u{301}",
    "n\u{303}",
    "a\u{30A}\u{327}",
    "\u{1100}\u{1161}\u{11A8}",
    "\u{301}",
    "क\u{94D}\u{200D}ष",
    "o\u{302}\u{323}",
    "\u{212B}",
    "Å",
    "\u{FB01}",
];
const ENDINGS: [&str; 16] = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'LL", "’s", "'", "''", "'x",
    " 's",
];
const SPACES: [&str; 16] = [
    " ", "  ", "   ", "    ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \t ", "\u{A0}",
    "\u{3000}", "\u{2009}", "\u{85}", "\u{2028}",
];
const CONTROLS: [&str; 9] = [
    "\0",
    "\u{1}",
    "\u{7}",
    "\u{8}",
    "\u{B}",
    "\u{C}",
    "\u{1B}[0m",
    "\u{7F}",
    "\u{200B}",
];
const LOOKS: [&str; 14] = [
    "<0x0A>",
    "<0xFF>",
    "▁",
    "▁▁a",
    "Ġ",
    "Ċ",
    "Ã©",
    "â€™",
    "\\xff\\xfe",
    "<|",
    "|>",
    "<s",
    "[PAD1]",
    "\u{10FFFF}",
];
/// Special tokens of one family or another; in the others this is text.
const SPECIALS: [&str; 14] = [
    "<s>",
    "</s>",
    "<unk>",
    "[INST]",
    "[/INST]",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|reserved_special_token_7|>",
    "<SPECIAL_20>",
    "[TOOL_CALLS]",
];

/// 10,000 strings without bytes that the vocabulary lacks or marks that a reference does not know.
fn strings(tokenizer: &Tokenizer) -> Vec<String> {
    let missing = tokenizer.missing_bytes();
    let mut random = Random(17);
    let mut strings = vec![String::new(), " ".to_owned(), "a".to_owned()];
    while strings.len() < N_STRINGS {
        let n_parts = 1 + random.below(12);
        let text: String = (0..n_parts).map(|_| part(&mut random)).collect();
        let is_known = !text.contains(is_newer) && !text.bytes().any(|it| missing.contains(&it));
        if is_known {
            strings.push(text);
        }
    }
    strings
}

/// Marks that Unicode has since version 15, while Python 3.11's table, by which the
/// reference composes, is of version 14 and does not know their order.
fn is_newer(it: char) -> bool {
    matches!(it, '\u{897}' | '\u{ECE}' | '\u{1ACF}'..='\u{1AEB}')
}

/// Words, code, signs, white space, special tokens and whatever else ids depend on.
pub(crate) fn part(random: &mut Random) -> String {
    match random.below(20) {
        0..5 => format!("{}{}", random.pick(&[" ", "", "\n"]), random.pick(&WORDS)),
        5 => random.pick(&CODE).to_owned(),
        6 => {
            let sign = random.pick(&SIGNS);
            random.repeat(sign, 3)
        }
        7 => random.pick(&EMOJI).to_owned(),
        8 => format!("{}{}", random.pick(&WORDS), random.pick(&MARKS)),
        9 | 10 => format!("{}{}", random.pick(&WORDS), random.pick(&ENDINGS)),
        11 => {
            let space = random.pick(&SPACES);
            random.repeat(space, 20)
        }
        12 => random.pick(&SPACES).to_owned(),
        13 => random.pick(&CONTROLS).to_owned(),
        14 => random.pick(&LOOKS).to_owned(),
        15 => random.pick(&SPECIALS).to_owned(),
        16 => (0..=random.below(12))
            .map(|_| random.char_in(0x30..0x3A))
            .collect(),
        17 => (0..=random.below(8))
            .map(|_| random.char_in(0x21..0x3000))
            .collect(),
        18 => (0..=random.below(6))
            .map(|_| random.char_in(0..0x11_0000))
            .collect(),
        // Now and then a very long word.
        _ if random.below(20) == 0 => {
            let word = random.pick(&WORDS);
            random.repeat(word, 400)
        }
        _ => (0..=random.below(30))
            .map(|_| random.char_in(0x61..0x7B))
            .collect(),
    }
}
