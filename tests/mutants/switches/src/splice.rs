//! Sources with switches: every function once as it is and once per mutant in it.
//!
//! ```text
//! fn f() -> u32 { 1 + 2 }
//!
//! fn f() -> u32 { match crate::mutant_switch::number() {
//! /*mutant 17*/ 17 => { 1 - 2 },
//! _ => { 1 + 2 },
//! } }
//! ```
//!
//! Whole bodies are repeated, not single operators, so that a mutant is the text that
//! cargo-mutants would compile: with its precedence, moves and borrows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::mutant::Mutant;
use crate::{Failure, write_if_changed};

const LIBRARY: &str = "src/lib.rs";

/// Reads the environment once; 0 is the program as it is.
const SWITCH: &str = r#"//! Which mutant is switched on.
use std::sync::OnceLock;
static NUMBER: OnceLock<u32> = OnceLock::new();
/// Its number, or 0.
#[inline]
pub fn number() -> u32 {
    *NUMBER.get_or_init(|| std::env::var("MUTANT").map_or(0, |it| it.parse().expect("a number")))
}
"#;

/// A function of a file, as ranges of bytes.
#[derive(Debug)]
struct Function {
    /// With its braces.
    body: Range<usize>,
    /// An `impl Trait` that is returned. All bodies must return one type, so it is boxed.
    opaque: Option<Range<usize>>,
}

/// The files that have mutants, as they are, and the root of the library.
pub(crate) struct Sources {
    files: BTreeMap<String, File>,
    library: String,
}

struct File {
    text: String,
    functions: Vec<Function>,
}

/// Where rustc found fault: file and line.
pub(crate) type Place = (String, usize);

impl Sources {
    pub(crate) fn read(root: &Path, mutants: &[Mutant]) -> Result<Self, Failure> {
        let names: BTreeSet<&str> = mutants.iter().map(|it| it.file.as_str()).collect();
        let mut files = BTreeMap::new();
        for name in names {
            let text = fs::read_to_string(root.join(name))?;
            let mut found = Functions(Vec::new());
            found.visit_file(&syn::parse_file(&text).map_err(|it| format!("{name}: {it}"))?);
            let functions = found.0;
            files.insert(name.to_owned(), File { text, functions });
        }
        let library = fs::read_to_string(root.join(LIBRARY))? + "\npub mod mutant_switch;\n";
        Ok(Self { files, library })
    }

    /// Whether [`Sources::write_switched`] writes a file of that name.
    pub(crate) fn writes(&self, name: &str) -> bool {
        name == LIBRARY || self.files.contains_key(name)
    }

    /// Whether the mutant lies in the body of a function that can have several.
    pub(crate) fn can_switch(&self, mutant: &Mutant) -> bool {
        self.files[&mutant.file].function(mutant).is_some()
    }

    /// Writes the files with all of `mutants` in them, and the switch.
    pub(crate) fn write_switched(&self, copy: &Path, mutants: &[Mutant]) -> Result<(), Failure> {
        for (name, file) in &self.files {
            write_if_changed(&copy.join(name), file.switched(name, mutants).as_bytes())?;
        }
        write_if_changed(&copy.join(LIBRARY), self.library.as_bytes())?;
        Ok(write_if_changed(
            &copy.join("src/mutant_switch.rs"),
            SWITCH.as_bytes(),
        )?)
    }

    /// Writes the files with one mutant, which needs no switch.
    pub(crate) fn write_alone(&self, copy: &Path, mutant: &Mutant) -> Result<(), Failure> {
        for (name, file) in &self.files {
            let text = if *name == mutant.file {
                file.mutated(mutant, 0..file.text.len())
            } else {
                file.text.clone()
            };
            write_if_changed(&copy.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// The numbers of the mutants in whose bodies these places lie.
    ///
    /// # Errors
    ///
    /// A place in no mutant: something else than a mutant does not compile.
    pub(crate) fn broken(
        &self,
        mutants: &[Mutant],
        places: &[Place],
    ) -> Result<BTreeSet<usize>, Failure> {
        let mut broken = BTreeSet::new();
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for (name, line) in places {
            let Some((key, file)) = self.files.get_key_value(name) else {
                return Err(format!("{name}:{line} does not compile").into());
            };
            let text = texts
                .entry(key)
                .or_insert_with(|| file.switched(key, mutants));
            // The nearest marker above says whose body it is.
            let marker = text.lines().take(*line).filter_map(|it| {
                let number = it.strip_prefix("/*mutant ")?.split_once("*/")?.0;
                number.parse::<usize>().ok()
            });
            match marker.last() {
                Some(number) if number != 0 => broken.insert(number),
                _ => return Err(format!("{name}:{line} does not compile").into()),
            };
        }
        Ok(broken)
    }
}

impl File {
    /// The innermost function around a mutant.
    fn function(&self, mutant: &Mutant) -> Option<&Function> {
        let (start, end) = self.bytes(mutant);
        let around = |it: &&Function| it.body.start < start && end < it.body.end;
        let functions = self.functions.iter().filter(around);
        functions.min_by_key(|it| it.body.len())
    }

    fn bytes(&self, mutant: &Mutant) -> (usize, usize) {
        (byte(&self.text, mutant.start), byte(&self.text, mutant.end))
    }

    /// A part of the text with the mutant in it.
    fn mutated(&self, mutant: &Mutant, part: Range<usize>) -> String {
        let (start, end) = self.bytes(mutant);
        let (before, after) = (&self.text[part.start..start], &self.text[end..part.end]);
        format!("{before}{}{after}", mutant.replacement)
    }

    fn switched(&self, name: &str, mutants: &[Mutant]) -> String {
        let mut inside: BTreeMap<usize, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants.iter().filter(|it| it.file == name) {
            if let Some(function) = self.function(mutant) {
                inside.entry(function.body.start).or_default().push(mutant);
            }
        }
        self.with_switches(0..self.text.len(), &inside)
    }

    /// A part of the text whose functions have switches; `inside` lists mutants by body.
    fn with_switches(&self, part: Range<usize>, inside: &BTreeMap<usize, Vec<&Mutant>>) -> String {
        let mut text = String::new();
        let mut at = part.start;
        for function in &self.functions {
            let body = &function.body;
            let Some(mutants) = inside.get(&body.start) else {
                continue;
            };
            if body.start < at || part.end < body.end || *body == part {
                continue;
            }
            let (mut open, mut close) = ("", "");
            if let Some(opaque) = &function.opaque {
                let bounds = &self.text[opaque.start + "impl".len()..opaque.end];
                let lifetime = if bounds.contains("+ '") { "" } else { " + '_" };
                text += &self.text[at..opaque.start];
                text += &format!("Box<dyn{bounds}{lifetime}>");
                at = opaque.end;
                (open, close) = ("Box::new(", ")");
            }
            text += &self.text[at..body.start];
            text += "{ match crate::mutant_switch::number() {\n";
            for mutant in mutants {
                let number = mutant.number;
                let mutated = self.mutated(mutant, body.clone());
                text += &format!("/*mutant {number}*/ {number} => {open}{mutated}{close},\n");
            }
            let body_text = self.with_switches(body.clone(), inside);
            text += &format!("/*mutant 0*/ _ => {open}{body_text}{close},\n}} }}");
            at = body.end;
        }
        text + &self.text[at..part.end]
    }
}

/// Finds functions with bodies, outer ones before those inside them.
struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let mut opaque = None;
        if let syn::ReturnType::Type(_, it) = &signature.output {
            let mut hidden = Opaque(0);
            hidden.visit_type(it);
            match **it {
                syn::Type::ImplTrait(_) if hidden.0 == 1 => opaque = Some(it.span().byte_range()),
                _ if hidden.0 == 0 => {}
                // An `impl Trait` inside another type cannot be boxed from outside.
                _ => return,
            }
        }
        if signature.constness.is_none() {
            let body = block.span().byte_range();
            self.0.push(Function { body, opaque });
        }
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
        self.add(&it.sig, &it.block);
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &'a syn::ImplItemFn) {
        self.add(&it.sig, &it.block);
        visit::visit_impl_item_fn(self, it);
    }

    fn visit_trait_item_fn(&mut self, it: &'a syn::TraitItemFn) {
        if let Some(block) = &it.default {
            self.add(&it.sig, block);
        }
        visit::visit_trait_item_fn(self, it);
    }
}

/// Counts the `impl Trait` in a type.
struct Opaque(usize);

impl<'a> Visit<'a> for Opaque {
    fn visit_type_impl_trait(&mut self, it: &'a syn::TypeImplTrait) {
        self.0 += 1;
        visit::visit_type_impl_trait(self, it);
    }
}

/// The byte at a line and column, both from 1; columns are characters.
fn byte(text: &str, (line, column): (usize, usize)) -> usize {
    let mut lines = text.split_inclusive('\n');
    let start: usize = lines.by_ref().take(line - 1).map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    start
        + line
            .chars()
            .take(column - 1)
            .map(char::len_utf8)
            .sum::<usize>()
}
