//! Runs as one HTML file that a reviewer opens: rankings, differences, every example.
//!
//! The page is a skeleton with the runs as JSON in it (`data`), and a script that shows
//! them. It needs nothing but itself: styles and script stand in it and are allowed by
//! their hashes, everything else is forbidden by its content security policy, requests
//! included. Numbers that were judged (values, intervals, gains) are rounded here, as in
//! the text report; the script rounds only values of single cases, by the same rules, which
//! `tests/html/numbers.json` holds against `number`.
//!
//! Texts of data and models reach the page as JSON strings and are shown as text nodes.
//! The page is a pure function of the runs: equal runs make equal bytes.

mod cases;
mod data;
mod hash;
mod texts;

use askama::Template;

use crate::table::{StoredRun, StoredToken};

use super::{InputError, ReportInput, Style, text};

/// The styles of the page.
const STYLE: &str = include_str!("page/page.css");

/// The script of the page, in the order in which it is put together.
const SCRIPT: [&str; 9] = [
    include_str!("page/number.js"),
    include_str!("page/text.js"),
    include_str!("page/model.js"),
    include_str!("page/summary.js"),
    include_str!("page/pair.js"),
    include_str!("page/tokens.js"),
    include_str!("page/filter.js"),
    include_str!("page/examples.js"),
    include_str!("page/main.js"),
];

/// Columns of the text that stands in for the page where scripts are turned off.
const PLAIN_WIDTH: usize = 100;

/// One run of a page.
#[derive(Debug, Clone, Copy)]
pub struct PageRun<'a> {
    /// The run.
    pub run: &'a StoredRun,
    /// Its scored tokens, if it was made with them.
    pub tokens: Option<&'a [StoredToken]>,
}

/// The page around the data.
#[derive(Template)]
#[template(
    ext = "html",
    source = r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style|safe }}</style>
</head>
<body>
<a class="skip" href="#examples">Skip to the examples</a>
<div id="page"></div>
<noscript>
<p>The charts and examples of this report need JavaScript. The summary does not:</p>
<pre>{{ plain }}</pre>
</noscript>
<script type="application/json" id="data">{{ payload|safe }}</script>
<script>{{ script|safe }}</script>
</body>
</html>
"##
)]
struct Skeleton<'a> {
    policy: &'a str,
    title: &'a str,
    style: &'a str,
    plain: &'a str,
    payload: &'a str,
    script: &'a str,
}

/// The page of `runs`, the first of which is shown first.
///
/// # Errors
///
/// [`InputError`] if the tables and the manifest of a run do not belong together.
pub fn page(runs: &[PageRun<'_>]) -> Result<String, InputError> {
    let inputs = runs
        .iter()
        .map(|it| ReportInput::from_stored(it.run))
        .collect::<Result<Vec<_>, _>>()?;
    let style = unix_lines(STYLE);
    let script = unix_lines(&SCRIPT.concat());
    let script = format!("(() => {{\n\"use strict\";\n{script}}})();\n");
    let plain: Vec<String> = inputs
        .iter()
        .map(|it| {
            let style = Style {
                color: false,
                width: PLAIN_WIDTH,
            };
            format!("{}\n{}", it.run, text::summary(it, style))
        })
        .collect();
    let skeleton = Skeleton {
        policy: &policy(&style, &script),
        title: &title(&inputs),
        style: &style,
        plain: &plain.join("\n"),
        payload: &texts::in_script(&data::payload(runs, &inputs)?),
        script: &script,
    };
    Ok(skeleton
        .render()
        .expect("writing to a string does not fail"))
}

/// A checkout on Windows may have given the files other line ends, which a browser would undo
/// before it hashes.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// Nothing may be loaded or sent; exactly this style and this script may be used, and the
/// script has no way to turn a text into elements or code.
fn policy(style: &str, script: &str) -> String {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
        hash::sha256_base64(style.as_bytes()),
        hash::sha256_base64(script.as_bytes())
    )
}

fn title(inputs: &[ReportInput]) -> String {
    let mut names: Vec<&str> = inputs.iter().map(|it| it.experiment.as_str()).collect();
    names.dedup();
    let runs = match inputs {
        [only] => only.run.clone(),
        several => super::number::counted(several.len(), "run"),
    };
    format!("{} · {runs} · harness report", names.join(", "))
}

#[cfg(test)]
mod tests;
