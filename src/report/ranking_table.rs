//! The table of a ranking: its columns, as far as a layout has room for them.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};

use crate::stats::{Direction, Interval};

use super::MetricInput;
use super::number::{self, NOTHING, aligned, count, difference_unit};
use super::ranking::{Place, Ranking, Standing};

/// Longest line of a metric's name in a header.
const HEADER_WIDTH: usize = 14;

/// What a table shows, from all to the least.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) n_further: usize,
    pub(super) has_tokens: bool,
    pub(super) has_time: bool,
    /// Intervals stand below their values instead of beside them.
    pub(super) is_tall: bool,
}

/// The table with the metrics of these indices, as many as the layout has room for.
pub(super) fn draw(
    ranking: &Ranking<'_>,
    wanted: &[usize],
    layout: Layout,
    is_colored: bool,
) -> Table {
    let columns = drawn(ranking, wanted, layout);
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    if is_colored {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(
        columns
            .iter()
            .map(|it| Cell::new(&it.header).set_alignment(it.alignment)),
    );
    for (row, place) in ranking.places.iter().enumerate() {
        let cell = |(index, column): (usize, &Drawn)| {
            let cell = Cell::new(&column.cells[row]).set_alignment(column.alignment);
            match color(place.standing) {
                Some(color) if index < 2 => cell.fg(color),
                _ => cell,
            }
        };
        table.add_row(columns.iter().enumerate().map(cell));
    }
    table
}

/// One column of the table.
struct Drawn {
    header: String,
    cells: Vec<String>,
    alignment: CellAlignment,
}

fn color(standing: Standing) -> Option<Color> {
    match standing {
        Standing::Best | Standing::Better => Some(Color::Green),
        Standing::Worse => Some(Color::Red),
        Standing::Inconclusive | Standing::NotCompared => Some(Color::Yellow),
        Standing::Control | Standing::Unchanged | Standing::Unjudged => None,
    }
}

fn drawn(ranking: &Ranking<'_>, wanted: &[usize], layout: Layout) -> Vec<Drawn> {
    let input = ranking.input;
    let variant = |it: &Place<'_>| &ranking.model.variants[it.variant];
    let right = CellAlignment::Right;
    let column = |header: String, cell: &dyn Fn(&Place<'_>) -> String| Drawn {
        header,
        cells: ranking.places.iter().map(cell).collect(),
        alignment: right,
    };
    let mut columns = Vec::new();
    if ranking.reference.is_some() {
        columns.push(column(String::new(), &|it| it.standing.mark().to_owned()));
    }
    let names = column("variant".to_owned(), &|it| variant(it).name.clone());
    columns.push(Drawn {
        alignment: CellAlignment::Left,
        ..names
    });
    columns.push(primary(ranking, layout.is_tall));
    if let Some(reference) = ranking.reference {
        columns.push(gains(ranking, reference, layout.is_tall));
    }
    for index in &wanted[..layout.n_further] {
        let metric = &input.metrics[*index];
        columns.push(column(header(metric), &|it| {
            let estimate = variant(it).measurements[*index].estimate;
            estimate.map_or(NOTHING.to_owned(), |it| {
                number::value(metric.unit, it.value)
            })
        }));
    }
    if layout.has_tokens
        && ranking
            .places
            .iter()
            .any(|it| variant(it).tokens_per_prompt.is_some())
    {
        columns.push(column("tokens per\nprompt".to_owned(), &|it| {
            let tokens = variant(it).tokens_per_prompt;
            tokens.map_or(NOTHING.to_owned(), |it| number::fixed(it, 0))
        }));
    }
    if ranking.model.variants.iter().any(|it| 0 < it.n_unscored()) {
        columns.push(column("unscored".to_owned(), &|it| {
            count(variant(it).n_unscored() as u64)
        }));
    }
    if layout.has_time
        && ranking
            .places
            .iter()
            .any(|it| variant(it).elapsed_seconds.is_some())
    {
        columns.push(column("time".to_owned(), &|it| {
            variant(it)
                .elapsed_seconds
                .map_or(NOTHING.to_owned(), number::seconds)
        }));
    }
    columns
}

/// The metric that ranks, with its interval.
fn primary(ranking: &Ranking<'_>, is_tall: bool) -> Drawn {
    let metric = ranking.input.primary();
    let rows: Vec<Option<(f64, Option<Interval>)>> = ranking
        .places
        .iter()
        .map(|it| it.estimate.map(|of| (of.value, of.interval)))
        .collect();
    let has_interval = rows.iter().flatten().any(|it| it.1.is_some());
    let interval = if has_interval { " [95 %]" } else { "" };
    let name = broken(&format!("{} {}", metric.name, arrow(metric)));
    let header = format!("{name}\n{}{interval}", metric.unit.as_str());
    let cells = aligned(&rows, |it| number::value(metric.unit, it));
    Drawn {
        header,
        cells: stacked(cells, is_tall),
        alignment: CellAlignment::Right,
    }
}

/// The gain over the reference, with its interval.
fn gains(ranking: &Ranking<'_>, reference: usize, is_tall: bool) -> Drawn {
    let unit = ranking.input.primary().unit;
    let rows: Vec<Option<(f64, Option<Interval>)>> = ranking
        .places
        .iter()
        .map(|it| it.gain.map(|gain| (gain, it.interval)))
        .collect();
    let has_interval = rows.iter().flatten().any(|it| it.1.is_some());
    let interval = if has_interval { " [95 %]" } else { "" };
    let against = match ranking.input.control {
        Some(_) => ranking.name(reference),
        None => "best",
    };
    let header = format!("gain vs {against}\n{}{interval}", difference_unit(unit));
    let cells = aligned(&rows, |it| number::gain(unit, it));
    Drawn {
        header,
        cells: stacked(cells, is_tall),
        alignment: CellAlignment::Right,
    }
}

/// Puts intervals below their values, where that is wanted.
fn stacked(cells: Vec<String>, is_tall: bool) -> Vec<String> {
    if !is_tall {
        return cells;
    }
    let stack = |cell: String| match cell.split_once(" [") {
        Some((value, interval)) => format!("{value}\n[{interval}"),
        None => cell.trim_end().to_owned(),
    };
    cells.into_iter().map(stack).collect()
}

fn header(metric: &MetricInput) -> String {
    let name = broken(&format!("{} {}", metric.name, arrow(metric)));
    format!("{name}\n{}", metric.unit.as_str())
}

/// A long name in several lines, broken behind underscores.
fn broken(name: &str) -> String {
    let (mut text, mut used) = (String::new(), 0);
    for part in name.split_inclusive('_') {
        let own = part.chars().count();
        if 0 < used && HEADER_WIDTH < used + own {
            text.push('\n');
            used = 0;
        }
        text.push_str(part);
        used += own;
    }
    text
}

fn arrow(metric: &MetricInput) -> &'static str {
    match metric.direction {
        Direction::HigherIsBetter => "↑",
        Direction::LowerIsBetter => "↓",
    }
}
