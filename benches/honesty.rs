//! How often are bounds, tests and gates wrong?
//!
//! Counts or simulates every figure of `benches/honesty.md` with 10,000 replicates and prints
//! its table. Ends with an error if a figure misses what is required of it and is not known to. Figures depend on
//! the seeds in the code alone, not on the machine.
//!
//! `cargo bench --no-default-features --bench honesty`; a number behind `--` takes so many
//! replicates instead.

use std::process::ExitCode;
use std::time::Instant;

// The simulations are written against these rooms, as in the library's own tests.
use harness::{experiment, gate, stats, text_metric};

#[path = "../src/gate/honesty/mod.rs"]
mod honesty;

use honesty::{Effort, Figure, clusters, controls, corpus, exact, families, gates};

/// Figures that belong together.
struct Section {
    /// What they are about.
    title: &'static str,
    /// How to compute them.
    figures: fn(Effort) -> Vec<Figure>,
}

/// All of them, in the order of the table.
const SECTIONS: [Section; 11] = [
    Section {
        title: "Wilson's two-sided 95 % interval (exact)",
        figures: exact::wilson_coverage,
    },
    Section {
        title: "A gate on a proportion passes a true drop of `max_drop` (exact)",
        figures: exact::gate_on_proportions,
    },
    Section {
        title: "One-sided 95 % bounds of a paired mean lie beyond the truth",
        figures: gates::bounds,
    },
    Section {
        title: "A gate on a mean passes a true drop of `max_drop`",
        figures: gates::false_pass,
    },
    Section {
        title: "A gate where nothing dropped",
        figures: gates::no_drop,
    },
    Section {
        title: "A candidate with no answer for its worst 3 % of rows passes",
        figures: gates::worst_rows_missing,
    },
    Section {
        title: "Corpus metrics: the two-sided 95 % interval of a difference holds the truth",
        figures: corpus::coverage,
    },
    Section {
        title: "Clusters of 1 to 16 examples, correlation 0.3: one-sided 95 % bounds lie beyond the truth",
        figures: clusters::bounds,
    },
    Section {
        title: "Equal variants without a control: any is called worse than the best",
        figures: families::false_claims,
    },
    Section {
        title: "Luck of the best: what is printed, as a share of what is true",
        figures: families::luck,
    },
    Section {
        title: "Negative controls: what a careless program would do",
        figures: controls::defects,
    },
];

fn main() -> ExitCode {
    let n_replicates = std::env::args().find_map(|it| it.parse().ok());
    let effort = Effort {
        n_replicates: n_replicates.unwrap_or(10_000),
        is_full: true,
    };
    let mut n_missed = 0;
    for section in SECTIONS {
        let start = Instant::now();
        println!("\n### {}\n", section.title);
        println!("| what | measured | required | tolerance | met |");
        println!("|---|---|---|---|---|");
        for figure in (section.figures)(effort) {
            n_missed += usize::from(!figure.is_as_expected());
            println!("{figure}");
        }
        eprintln!("{}: {:.1} s", section.title, start.elapsed().as_secs_f64());
    }
    if n_missed == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("{n_missed} figures are not as expected");
        ExitCode::FAILURE
    }
}
