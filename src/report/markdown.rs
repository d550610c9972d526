//! Checks as Markdown, for a comment on a pull request or the summary of a CI step.
//!
//! What stands here is read where others are notified and links are made of words. Therefore
//! every text that is not ours stands in a code span, which takes no mark-up, no HTML, no mention
//! and no reference. A document never outgrows its limit: tables are cut between rows, with a
//! sentence that says so.

use std::collections::HashSet;

use crate::compare::{Flip, PairedComparison};
use crate::gate::{Outcome, State};
use crate::metric::Unit;

use super::checked::{self, Checked, CheckedGate, GatePlace, INCOMPLETE, MAX_BROKEN, Unjudged};
use super::checks::details;
use super::comparison::{gain_line, p_value, verdict};
use super::escape::head;
use super::flips::per_case;
use super::number::{self, NOTHING, counted};

/// Bytes of a comment: GitHub takes 65,536 characters.
pub const COMMENT_LIMIT: usize = 60_000;

/// Bytes of all summaries of one step: GitHub takes 1 MiB.
pub const SUMMARY_LIMIT: usize = 1_000_000;

/// The least limit that [`text()`] keeps.
pub const MIN_LIMIT: usize = 30_000;

/// Columns of a name.
const NAME_WIDTH: usize = 60;

/// Columns of a reason.
const REASON_WIDTH: usize = 300;

/// Columns of the command line.
const COMMAND_WIDTH: usize = 800;

/// Names that a line lists.
const MAX_NAMES: usize = 5;

/// Bytes that are kept free for the sentence about rows left out.
const NOTE_BYTES: usize = 120;

/// The verdict, the checks, the gains, the broken examples, the drift, and the command.
///
/// At most `limit` bytes, if that is at least [`MIN_LIMIT`].
pub fn text(checked: &Checked<'_>, limit: usize) -> String {
    let end = reproduce(checked.version, checked.command);
    let mut page = Page {
        text: start(checked),
        limit,
    };
    if limit < page.text.len() + end.len() + NOTE_BYTES {
        return page.text;
    }
    page.limit -= end.len();
    page.table(&check_table(checked));
    page.table(&gain_table(checked));
    for group in broken_groups(checked) {
        page.table(&group.table());
    }
    if let Some(table) = drift(checked) {
        page.table(&table);
    }
    page.text + &end
}

/// That nothing was judged, why, and the command.
pub fn unjudged(of: &Unjudged<'_>) -> String {
    let hint = of.hint.map_or(String::new(), |it| {
        format!("Hint: {}.\n", span(it, REASON_WIDTH))
    });
    format!(
        "### {}: {}\n\nNothing was judged: {}.\n{hint}{}",
        code(of.file),
        of.state,
        span(of.why, REASON_WIDTH),
        reproduce(of.version, of.command)
    )
}

/// Text that grows up to a limit.
struct Page {
    text: String,
    limit: usize,
}

/// Rows between two texts.
struct Table {
    before: String,
    rows: Vec<String>,
    after: &'static str,
}

impl Page {
    /// Appends the table, or as many of its rows as there is room for.
    fn table(&mut self, table: &Table) {
        if table.rows.is_empty() {
            return;
        }
        let room = self.limit.saturating_sub(self.text.len());
        let frame = table.before.len() + table.after.len() + NOTE_BYTES;
        let mut left = room.saturating_sub(frame);
        let fits = |row: &&String| {
            let is_room = row.len() <= left;
            left = left.saturating_sub(row.len());
            is_room
        };
        let rows: Vec<&String> = table.rows.iter().take_while(fits).collect();
        let n_left_out = table.rows.len() - rows.len();
        let note = format!(
            "\n{} left out: this text has a limit. `harness check` shows all.\n",
            counted(n_left_out, "row")
        );
        if rows.is_empty() {
            if note.len() <= room {
                self.text += &note;
            }
            return;
        }
        self.text += &table.before;
        self.text.extend(rows.into_iter().map(String::as_str));
        if 0 < n_left_out {
            self.text += &note;
        }
        self.text += table.after;
    }
}

fn start(checked: &Checked<'_>) -> String {
    let comparison = checked.compared.comparison;
    let verdict = match checked.outcome() {
        Outcome::Passed => "passed",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Failed => "failed",
        Outcome::Incomplete => "incomplete",
    };
    let mut text = format!(
        "### {}: {verdict}\n\n{}.\n",
        code(&comparison.candidate.experiment),
        checked.counts()
    );
    if checked.is_incomplete {
        text += &format!("The run is incomplete: {INCOMPLETE}.\n");
    }
    text += &format!(
        "\nCandidate: run {}. Reference: {}",
        code(&comparison.candidate.run),
        code(checked.base)
    );
    if checked.base != comparison.reference.run {
        text += &format!(", run {}", code(&comparison.reference.run));
    }
    text += ".\n";
    let places = |decides: bool| -> Vec<String> {
        let gates = checked.edited.iter().filter(|it| it.decides == decides);
        gates.map(|it| it.place.text()).collect()
    };
    let skipped: Vec<String> = checked.skipped.iter().map(GatePlace::text).collect();
    for (what, names) in [
        ("New variants, not judged against it", checked.new_variants),
        (
            "New models, not judged against it",
            &comparison.new_models[..],
        ),
        (
            "Gates that were edited or are new, and do not decide",
            &places(false),
        ),
        (
            "The base's gates that were edited or removed, and still decide",
            &places(true),
        ),
        ("Gates that cover nothing that was selected", &skipped),
    ] {
        text += &listed(what, names);
    }
    text
}

/// `what: a, b.` on a line of its own; nothing where there are no names.
fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|it| code(it)).collect();
    let more = if shown.len() < names.len() {
        ", …"
    } else {
        ""
    };
    format!("{what}: {}{more}.\n", shown.join(", "))
}

fn check_table(checked: &Checked<'_>) -> Table {
    Table {
        before: "\n| state | check | why | gate |\n| --- | --- | --- | --- |\n".to_owned(),
        rows: checked.checks.iter().map(check_row).collect(),
        after: "",
    }
}

fn check_row(it: &CheckedGate<'_>) -> String {
    let check = it.line.check;
    let label = &check.label;
    let state = match check.state {
        State::Passed => "passed",
        State::Failed => "**failed**",
        State::Inconclusive if check.is_warning() => "inconclusive (warning)",
        State::Inconclusive if check.outcome() == Outcome::Passed => "inconclusive (no failure)",
        State::Inconclusive => "**inconclusive**",
        State::Unscored => "**unscored**",
    };
    let against = label.reference.as_ref();
    let against = against.map_or(String::new(), |it| format!(" vs {}", code(it)));
    let details = details(&it.line);
    let details: Vec<String> = details.iter().map(|it| span(it, REASON_WIDTH)).collect();
    format!(
        "| {state} | {} of {} · {}{against} | {} | {} |\n",
        code(&label.metric),
        code(&label.model),
        code(&label.variant),
        details.join("<br>"),
        code(&it.place())
    )
}

/// The confirmatory comparisons.
fn gain_table(checked: &Checked<'_>) -> Table {
    let comparison = checked.compared.comparison;
    let rows = comparison.comparisons.iter();
    let rows: Vec<&PairedComparison> = rows.filter(|it| it.is_confirmatory).collect();
    let unit = match rows.first().map(|it| number::difference_unit(it.unit)) {
        None | Some("") => String::new(),
        Some(unit) => format!(" in {unit}"),
    };
    Table {
        before: format!(
            "\n#### Gain by {}{unit}\n\n\
             | model | variant | reference | candidate | gain [95 %] | p adj. | n | verdict |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
            code(&comparison.primary)
        ),
        rows: rows.into_iter().map(gain_row).collect(),
        after: "",
    }
}

fn gain_row(row: &PairedComparison) -> String {
    let value = |it: Option<f64>| it.map_or(NOTHING.to_owned(), |it| number::value(row.unit, it));
    let gain = row.gain().map(|it| number::gain(row.unit, it));
    let ends = row.interval().map_or(String::new(), |it| {
        let [low, high] = [it.low, it.high].map(|it| number::gain(row.unit, it));
        format!(" [{low}, {high}]")
    });
    let cells = &row.cells;
    let against = if cells.candidate == cells.reference {
        String::new()
    } else {
        format!(" vs {}", code(&cells.reference))
    };
    let why = row.refusal.as_ref();
    let why = why.map_or(String::new(), |it| {
        format!(": {}", span(&it.to_string(), REASON_WIDTH))
    });
    format!(
        "| {} | {}{against} | {} | {} | {}{ends} | {} | {} | {}{why} |\n",
        code(&cells.candidate_model),
        code(&cells.candidate),
        value(row.reference_value),
        value(row.candidate_value),
        gain.unwrap_or_else(|| NOTHING.to_owned()),
        row.p_adjusted
            .map_or(NOTHING.to_owned(), |it| p_value(it).replace('<', "&lt;")),
        number::count(row.n_pairs as u64),
        verdict(row)
    )
}

/// The examples that one metric says one variant broke.
struct Group<'a> {
    /// Metric, model, variant, and what the change is against.
    key: [&'a str; 4],
    unit: Unit,
    broken: Vec<&'a Flip>,
}

/// Those of every check, then those by the primary metric that no check has shown.
fn broken_groups<'a>(checked: &Checked<'a>) -> Vec<Group<'a>> {
    let of_checks = checked.checks.iter().map(|it| {
        let label = &it.line.check.label;
        Group {
            key: [it.flip_metric(), &label.model, &label.variant, it.against],
            unit: it.flip_unit,
            broken: it.broken(),
        }
    });
    let comparison = checked.compared.comparison;
    let primary = per_case(&comparison.primary);
    let rows = &comparison.comparisons;
    let unit = rows.iter().find(|it| it.metric == primary);
    let unit = unit.map_or(Unit::Plain, |it| it.unit);
    let all = checked.compared.flips.iter();
    let of_primary = all.map(|(model, variant, flips)| Group {
        key: [primary, model, variant, checked.base],
        unit,
        broken: checked::broken(flips, primary),
    });
    let mut seen = HashSet::new();
    of_checks
        .chain(of_primary)
        .filter(|it| !it.broken.is_empty() && seen.insert(it.key))
        .collect()
}

impl Group<'_> {
    fn table(&self) -> Table {
        let [metric, model, variant, against] = self.key.map(code_in_html);
        let n = self.broken.len();
        let mut before = format!(
            "\n<details><summary>{} worse by {metric}: {variant} of {model} vs {against}\
             </summary>\n\n",
            counted(n, "example")
        );
        if MAX_BROKEN < n {
            before += &format!("The first {MAX_BROKEN}, the largest change first.\n\n");
        }
        before += "| | example | before → after |\n| --- | --- | --- |\n";
        let row = |flip: &&Flip| {
            format!(
                "| {} | {} | {} |\n",
                flip.kind.as_str(),
                code(&flip.example_id),
                checked::change(flip, self.unit)
            )
        };
        Table {
            before,
            rows: self.broken.iter().take(MAX_BROKEN).map(row).collect(),
            after: "\n</details>\n",
        }
    }
}

fn drift(checked: &Checked<'_>) -> Option<Table> {
    let drift = checked.drift?;
    let rows = drift.comparisons.iter().filter(|it| it.is_confirmatory);
    Some(Table {
        before: format!(
            "\n#### Since the first baseline of this line, run {}\n\n",
            code(&drift.reference.run)
        ),
        rows: rows
            .map(|it| format!("- {}\n", span(&gain_line(it), REASON_WIDTH)))
            .collect(),
        after: "",
    })
}

fn reproduce(version: &str, command: &str) -> String {
    format!(
        "\nReproduce with harness {}: {}\n",
        code(version),
        span(command, COMMAND_WIDTH)
    )
}

/// A name as a code span.
fn code(text: &str) -> String {
    span(text, NAME_WIDTH)
}

/// The start of a text as a code span that stays one wherever it stands, also in a table.
///
/// A span ends at the first run of as many backticks as began it, so there are more of them than
/// the text has in a row. A `|` would end a table's cell even within a span: it is written out,
/// as characters that steer are.
fn span(text: &str, width: usize) -> String {
    let text = head(text, width).replace('|', "\\u{7c}");
    let text = if text.is_empty() { " " } else { &text };
    let longest = text.split(|it| it != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One space is taken off either side if there is one at both, unless there is nothing else.
    let is_blank = text.bytes().all(|it| it == b' ');
    let ends_in = |it: char| text.starts_with(it) || text.ends_with(it);
    let pad = if !is_blank && (ends_in('`') || ends_in(' ')) {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A name as code within HTML, where Markdown is not read: every ASCII sign as a character
/// reference, so that neither of the two sees any.
fn code_in_html(text: &str) -> String {
    let mut shown = "<code>".to_owned();
    for character in head(text, NAME_WIDTH).chars() {
        if character.is_ascii_punctuation() {
            shown += &format!("&#{};", character as u32);
        } else {
            shown.push(character);
        }
    }
    shown + "</code>"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compare::FlipKind;
    use crate::report::checked_fixture::{Fixture, PAYLOADS, failed, flip};

    fn comment(fixture: &Fixture) -> String {
        fixture.with(|it| text(it, COMMENT_LIMIT))
    }

    #[test]
    fn every_kind_of_check_is_told() {
        insta::assert_snapshot!(comment(&Fixture::new()));
    }

    #[test]
    fn a_check_without_a_verdict_says_why() {
        let of = |text| unjudged(&crate::report::checked_fixture::unjudged(text));
        assert_eq!(
            of("a.toml"),
            "### `a.toml`: refused\n\nNothing was judged: `a.toml`.\nHint: `a.toml`.\n\n\
             Reproduce with harness `1.2.3`: `a.toml`\n"
        );
        for payload in PAYLOADS {
            assert_eq!(outside_spans(&of(payload)), outside_spans(&of("word")));
        }
    }

    #[test]
    fn an_incomplete_run_says_so() {
        let mut fixture = Fixture::new();
        fixture.checks.truncate(1);
        fixture.is_incomplete = true;
        let text = comment(&fixture);
        assert!(text.starts_with("### `translate`: incomplete\n\n1 check: 1 passed.\n"));
        assert!(text.contains(INCOMPLETE));
    }

    /// The text without its code spans, read as `CommonMark` 0.31 does (section 6.1): a span ends at
    /// the first run of as many backticks as began it.
    fn outside_spans(text: &str) -> String {
        let mut outside = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('`') {
            let (before, at) = rest.split_at(start);
            let n = at.len() - at.trim_start_matches('`').len();
            outside += before;
            let mut inside = &at[n..];
            loop {
                let end = inside.find('`').expect("every span ends");
                let after = &inside[end..];
                let m = after.len() - after.trim_start_matches('`').len();
                assert!(!inside[..end].contains('\n'), "a span ends on its line");
                inside = &after[m..];
                if m == n {
                    break;
                }
            }
            outside.push('S');
            rest = inside;
        }
        outside + rest
    }

    /// `<code>` with nothing but letters, spaces and references to single characters in it.
    fn without_html_code(text: &str) -> String {
        let mut outside = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<code>") {
            let (inside, after) = after.split_once("</code>").expect("it is closed");
            for part in inside.split("&#").skip(1) {
                let digits = part.split(';').next().unwrap();
                assert!(digits.bytes().all(|it| it.is_ascii_digit()), "{inside}");
            }
            let bare = inside.replace("&#", "").replace(';', "");
            assert!(!bare.contains(|it: char| it.is_ascii_punctuation() || it.is_control()));
            outside += before;
            outside.push('H');
            rest = after;
        }
        outside + rest
    }

    /// The same structure as with a harmless word in place of the text.
    fn assert_inert(payload: &str) {
        let structure = |text: &str| {
            let page = comment(&Fixture::of_text(text));
            assert!(page.len() <= COMMENT_LIMIT);
            without_html_code(&outside_spans(&page))
        };
        assert_eq!(structure(payload), structure("word"), "{payload:?}");
        let cell = span(payload, NAME_WIDTH);
        assert!(!cell.contains(['|', '\n', '\r']), "{cell}");
    }

    #[test]
    fn no_text_changes_the_structure() {
        for payload in PAYLOADS {
            assert_inert(payload);
        }
    }

    #[test]
    fn a_span_shows_what_it_holds() {
        for (text, expected) in [
            ("few", "`few`"),
            ("a`b", "``a`b``"),
            ("`", "`` ` ``"),
            ("``", "``` `` ```"),
            (" a ", "`  a  `"),
            (" ", "` `"),
            ("", "` `"),
            ("a|b", "`a\\u{7c}b`"),
            ("<b>&amp;@x#1", "`<b>&amp;@x#1`"),
        ] {
            assert_eq!(code(text), expected);
        }
    }

    #[test]
    fn a_summary_tells_names_by_reference() {
        assert_eq!(code_in_html("a<@b>"), "<code>a&#60;&#64;b&#62;</code>");
    }

    #[test]
    fn what_does_not_fit_is_cut_between_rows() {
        let mut fixture = Fixture::new();
        fixture.checks = (0..20_000).map(|i| failed(&format!("v{i:05}"))).collect();
        for limit in [MIN_LIMIT, COMMENT_LIMIT, SUMMARY_LIMIT] {
            let text = fixture.with(|it| text(it, limit));
            assert!(
                text.len() <= limit && limit - 2_000 < text.len(),
                "{}",
                text.len()
            );
            assert!(text.contains("rows left out"), "{limit}");
            assert!(text.contains("Reproduce with"), "the end stays");
            let rows = text.lines().filter(|it| it.starts_with("| "));
            assert!(
                rows.into_iter().all(|it| it.ends_with(" |")),
                "rows are whole"
            );
        }
    }

    #[test]
    fn at_most_twenty_examples_are_named() {
        let mut fixture = Fixture::new();
        fixture.broken = (0..50)
            .map(|i| flip(&format!("r-{i:03}"), FlipKind::Broke))
            .collect();
        let text = comment(&fixture);
        assert!(text.contains("50 examples worse by") && text.contains("The first 20"));
        assert!(text.contains("r-019") && !text.contains("r-020"));
    }

    /// The longest names there can be, of the widest characters.
    #[test]
    fn long_names_do_not_break_the_limit() {
        for unit in ["|", "`", "\u{202e}", "\u{301}", "𝟙", "<"] {
            let fixture = Fixture::of_text(&unit.repeat(100_000));
            for limit in [MIN_LIMIT, COMMENT_LIMIT] {
                let n_bytes = fixture.with(|it| text(it, limit)).len();
                assert!(n_bytes <= limit, "{unit:?} takes {n_bytes} of {limit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_inert(text in any::<String>()) {
            assert_inert(&text);
        }

        #[test]
        fn any_signs_are_inert(text in "[`|\\\\<>&@#*_ \n\\[\\]()!~:.a-]{0,40}") {
            assert_inert(&text);
        }
    }
}
