//! How deeply the expressions of a template nest.
//!
//! The engine bounds brackets and blocks, but not chains such as `x.a.a.a` or `x ~ x ~ x`,
//! which become as deep a syntax tree; walking that one recursively would exhaust the stack,
//! which ends the process. So the depth is counted from the tokens, before there is a tree.
//!
//! Values nest, too: a loop that puts a namespace's list into a list again builds one as deep as
//! the loop is long, and dropping it recurses. Only a namespace lasts from one turn to the next,
//! so a template with one gets [`STATEFUL_FUEL`] at most and a stack that is enough for it.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// The deepest chain of one expression; written ones have a dozen links, generated ones some more.
const MAX_DEPTH: usize = 250;

/// Branches `elif` of a template: each nests in the one before.
const MAX_ELIF: usize = 250;

/// Fuel of a template with a namespace: 20,000 turns of a loop, or 12 MB of text.
pub const STATEFUL_FUEL: u64 = 200_000;

/// Address space, of which only what is used takes memory: a level takes at least one unit of
/// fuel to build, and less than 1 KiB of stack to print, compare or drop.
const LARGE_STACK_BYTES: usize = 1024 * STATEFUL_FUEL as usize + (16 << 20);

/// A template whose syntax tree would be too deep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an expression of more than {MAX_DEPTH} links, or more than {MAX_ELIF} `elif`, is too deep"
)]
pub struct TooDeep {
    /// Bytes of the source where it gets too deep.
    pub range: Range<usize>,
}

/// Refuses a template that nests too deeply to be compiled.
///
/// What is no template at all passes, since compiling it says so better.
///
/// # Errors
///
/// [`TooDeep`] at the first token beyond the limits.
pub fn check_depth(source: &str, syntax: SyntaxConfig) -> Result<(), TooDeep> {
    let (mut depth, mut n_elif) = (0, 0);
    // Depth at each bracket that is open.
    let mut open: Vec<usize> = Vec::new();
    for token in tokenize(source, false, syntax) {
        let Ok((token, span)) = token else {
            return Ok(());
        };
        match token {
            Token::VariableStart | Token::BlockStart => {
                depth = 0;
                open.clear();
            }
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                depth += 1;
                open.push(depth);
            }
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                depth = open.pop().unwrap_or(depth);
            }
            // What follows stands beside what went before, not in it.
            Token::Comma => depth = open.last().copied().unwrap_or(0),
            Token::Ident("elif") => n_elif += 1,
            Token::Ident(word) => depth += usize::from(is_operator(word)),
            Token::TemplateData(_)
            | Token::VariableEnd
            | Token::BlockEnd
            | Token::Colon
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_) => {}
            // All that is left are operators.
            _ => depth += 1,
        }
        if MAX_DEPTH < depth || MAX_ELIF < n_elif {
            let range = span.start_offset as usize..span.end_offset as usize;
            return Err(TooDeep { range });
        }
    }
    Ok(())
}

/// Whether the template can carry values from one turn of a loop to the next.
pub fn is_stateful(source: &str) -> bool {
    source.contains("namespace")
}

/// Does `render` on a stack on which no value built with [`STATEFUL_FUEL`] nests too deeply.
///
/// # Errors
///
/// What the system says if it has no such stack.
pub fn on_large_stack<T: Send>(render: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(LARGE_STACK_BYTES)
            .spawn_scoped(scope, render)?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn is_operator(word: &str) -> bool {
    matches!(word, "and" | "or" | "not" | "is" | "in" | "if" | "else")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_deep(source: &str) -> bool {
        check_depth(source, SyntaxConfig::default()).is_err()
    }

    #[test]
    fn chains_are_deep_and_lists_are_not() {
        for link in [
            ".a",
            "[0]",
            "|f",
            "(1, 2)",
            " ~ x",
            " and x",
            " if x else y",
        ] {
            let source = |n: usize| format!("{{{{ x{} }}}}", link.repeat(n));
            assert!(!is_deep(&source(100)), "{link}");
            assert!(is_deep(&source(300)), "{link}");
        }
        let list = format!("{{{{ [{}] }}}}", "x.a ~ 'b', ".repeat(10_000));
        assert!(!is_deep(&list));
        assert!(!is_deep(&"{{ x.a.b | upper }}".repeat(10_000)));
        assert!(!is_deep(&"a.b.c ".repeat(10_000)), "text is no expression");
        assert!(is_deep(&"{% if x %}{% elif x %}".repeat(300)));
    }

    #[test]
    fn the_place_is_where_it_gets_too_deep() {
        let source = format!("é{{{{ x{} }}}}", ".a".repeat(251));
        // Two bytes of é, braces, a space and x: the 251st dot has 250 links before it.
        let dot = 2 + 4 + 2 * 250;
        let error = check_depth(&source, SyntaxConfig::default()).unwrap_err();
        assert_eq!(error.range, dot..dot + 1);
    }
}
