//! What the program says: results on stdout, everything else on stderr.
//!
//! A reader that closes the pipe early (`harness show | head`) is no failure. Colour only
//! repeats what the words say, and is left out where nobody wants it. Text from files
//! reaches a terminal without control characters: [`harmless`], and what
//! [`harness::experiment::render`] does by itself.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::experiment::{Color, Diagnostics, render};
use harness::report::escape::{document, inert};

/// Columns where there is no terminal to ask: as wide as help and messages get.
const DEFAULT_WIDTH: usize = 100;

/// Results could not be written to stdout, for another reason than a closed pipe.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[from] io::Error);

/// Writes a command's result to stdout: a text for people, or JSON.
///
/// # Errors
///
/// [`OutputError`] if not all of it could be written, as on a full disk; a pipe that the
/// reader closed is fine.
pub(crate) fn result(text: &str) -> Result<(), OutputError> {
    as_it_is(&inert(text))
}

/// Writes a result in another format to stdout, of which no byte may change.
///
/// # Errors
///
/// As [`result`].
pub(crate) fn as_it_is(text: &str) -> Result<(), OutputError> {
    write_all(&mut io::stdout().lock(), text)
}

/// Writes and flushes; a closed pipe swallows the rest.
fn write_all(to: &mut dyn Write, text: &str) -> Result<(), OutputError> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(err.into()),
        _ => Ok(()),
    }
}

/// Writes lines to stderr, without control characters. If that fails there is nobody to tell.
pub(crate) fn note(lines: &str) {
    writeln!(io::stderr().lock(), "{}", note_text(lines)).ok();
}

fn note_text(lines: &str) -> String {
    inert(&harmless(lines)).into_owned()
}

/// Writes commands for the runner of a CI system to stderr, which reads them from there too.
pub(crate) fn commands(lines: &str) {
    write!(io::stderr().lock(), "{}", harmless(lines)).ok();
}

/// Panics that are told: one that is caught may come again with every other request.
const MAX_PANICS_TOLD: usize = 5;

/// How many panics there were.
static N_PANICS: AtomicUsize = AtomicUsize::new(0);

/// Writes what a panic said to stderr, as safe to show as everything else: it may quote data.
pub(crate) fn panicked(panic: &PanicHookInfo<'_>) {
    if N_PANICS.fetch_add(1, Ordering::Relaxed) < MAX_PANICS_TOLD {
        note(&format!("internal error: {panic}"));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            note(&trace.to_string());
        }
    }
}

/// Writes what is wrong with an input to stderr, with the lines it stands on.
pub(crate) fn diagnostics(diagnostics: &Diagnostics) {
    let text = render(diagnostics, Stream::Stderr.width(), Stream::Stderr.color());
    write!(io::stderr().lock(), "{}", inert(&text)).ok();
}

/// Writes an error with its causes to stderr, and what to do about it.
pub(crate) fn error(error: &dyn Error, hint: Option<&str>) {
    write!(io::stderr().lock(), "{}", error_text(error, hint)).ok();
}

/// ```text
/// error: what failed
///   cause: why
///   hint: what to do
/// ```
fn error_text(error: &dyn Error, hint: Option<&str>) -> String {
    let mut lines = vec![format!("error: {error}\n")];
    let mut cause = error.source();
    while let Some(it) = cause {
        lines.push(format!("  cause: {it}\n"));
        cause = it.source();
    }
    lines.extend(hint.map(|it| format!("  hint: {it}\n")));
    inert(&harmless(&lines.concat())).into_owned()
}

/// The text with control characters, which could steer a terminal, replaced; lines stay.
///
/// Characters that change the direction of writing are replaced too: they make a name look
/// like another.
pub(crate) fn harmless(text: &str) -> String {
    let is_steering = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| {
            if is_steering(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// The value as JSON on several lines, with a newline at the end.
pub(crate) fn json(value: &serde_json::Value) -> String {
    document(value)
}

/// The path as one word of a shell's command line, to be pasted.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = harmless(&path.display().to_string());
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:~\\".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    if cfg!(windows) {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Where something is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Results.
    Stdout,
    /// Everything else.
    Stderr,
}

impl Stream {
    /// Whether a person looks at it directly.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether to colour it.
    pub(crate) fn color(self) -> Color {
        color(&|name| std::env::var_os(name), self.is_terminal())
    }

    /// Columns of the terminal; 100 if it is none.
    pub(crate) fn width(self) -> usize {
        self.size().map_or(DEFAULT_WIDTH, |(width, _)| width)
    }

    /// Columns and lines of the terminal, if it is one.
    pub(crate) fn size(self) -> Option<(usize, usize)> {
        let size = match self {
            Self::Stdout => terminal_size::terminal_size_of(io::stdout()),
            Self::Stderr => terminal_size::terminal_size_of(io::stderr()),
        };
        // Some pseudo terminals say that they have no columns at all.
        size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)))
            .filter(|(width, height)| 0 < *width && 0 < *height)
    }
}

/// `NO_COLOR` (<https://no-color.org>) outweighs `CLICOLOR_FORCE`, which outweighs the rest
/// (<https://bixense.com/clicolors>).
fn color(variable: &dyn Fn(&str) -> Option<OsString>, is_terminal: bool) -> Color {
    let is_set = |name| variable(name).is_some_and(|it| !it.is_empty());
    let is_zero = |name| variable(name).is_some_and(|it| it == "0");
    let is_wanted = if is_set("NO_COLOR") {
        false
    } else if is_set("CLICOLOR_FORCE") && !is_zero("CLICOLOR_FORCE") {
        true
    } else {
        let is_dumb = variable("TERM").is_some_and(|it| it == "dumb");
        is_terminal && !is_zero("CLICOLOR") && !is_dumb
    };
    if is_wanted {
        Color::Always
    } else {
        Color::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer whose every call fails in the same way.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        write_all(&mut Broken(io::ErrorKind::BrokenPipe), "text").unwrap();
        let err = write_all(&mut Broken(io::ErrorKind::StorageFull), "text").unwrap_err();
        assert_eq!(err.to_string(), "cannot write to standard output");
        assert!(err.source().is_some(), "the cause is kept");
    }

    #[test]
    fn colour_is_decided_by_the_environment_then_the_terminal() {
        for (variables, is_terminal, expected) in [
            (&[][..], true, Color::Always),
            (&[], false, Color::Never),
            (&[("NO_COLOR", "1")], true, Color::Never),
            // The specification: only when not empty, whatever the value.
            (&[("NO_COLOR", "")], true, Color::Always),
            (&[("NO_COLOR", "0")], true, Color::Never),
            (&[("CLICOLOR_FORCE", "1")], false, Color::Always),
            (&[("CLICOLOR_FORCE", "0")], false, Color::Never),
            (
                &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
                true,
                Color::Never,
            ),
            (&[("CLICOLOR", "0")], true, Color::Never),
            (&[("TERM", "dumb")], true, Color::Never),
            (
                &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")],
                true,
                Color::Always,
            ),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.into())
            };
            assert_eq!(
                color(&variable, is_terminal),
                expected,
                "{variables:?}, {is_terminal}"
            );
        }
    }

    #[cfg(not(windows))]
    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        for (path, expected) in [
            ("demo/a.toml", "demo/a.toml"),
            ("my demo", "'my demo'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(Path::new(path)), expected);
        }
    }

    #[test]
    fn no_line_of_a_message_is_a_command_of_a_ci_system() {
        let err = io::Error::other("refused\n::add-mask::x\n \t::error::y ::");
        assert_eq!(
            error_text(&err, None),
            "error: refused\n| ::add-mask::x\n \t| ::error::y ::\n"
        );
        assert_eq!(note_text("a\n::error::x\u{7}"), "a\n| ::error::x\u{fffd}");
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_without_control_characters() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open `\u{1b}[2J\u{202e}x`")]
        struct Outer(#[from] io::Error);
        let err = Outer(io::Error::other("it is\u{7} gone"));
        assert_eq!(
            error_text(&err, Some("look elsewhere")),
            "error: cannot open `\u{fffd}[2J\u{fffd}x`\n  cause: it is\u{fffd} gone\n  \
             hint: look elsewhere\n"
        );
    }
}
