//! The order in which a file lists the choices moves them in the tables and changes no number.

use harness::table::{StoredChoice, StoredRun};

use super::{Bench, COLOURS};

const CHOICES: [&str; 4] = ["small", "very large", "large", "not so small é"];

/// `colours` with four choices in some order, and every metric of choices.
fn experiment(order: &[usize]) -> String {
    let listed: Vec<String> = order
        .iter()
        .map(|it| format!("\"{}\"", CHOICES[*it]))
        .collect();
    let listed = format!("choices = [{}]", listed.join(", "));
    let colours = COLOURS.replace("choices = [\"small\", \"very large\"]", &listed);
    assert!(colours.contains(&listed));
    colours + "[[metrics]]\nuse = [\"acc_calibrated\", \"acc_pmi\"]\n"
}

fn run(bench: &Bench, order: &[usize]) -> StoredRun {
    bench.write("colours.toml", &experiment(order));
    // Nothing comes from the store, so that the second run computes its own.
    bench.ok("run colours.toml -q --fresh --tokens");
    bench.latest("colours")
}

/// The choices of a run as they would stand in the other order.
fn in_order<'a>(run: &'a StoredRun, order: &[usize]) -> Vec<&'a StoredChoice> {
    let cases = run.choices.chunks_exact(CHOICES.len());
    cases
        .flat_map(|case| order.iter().map(|it| &case[*it]))
        .collect()
}

#[test]
fn another_order_of_the_choices_permutes_scores_and_nothing_else() {
    let bench = Bench::new();
    let order = [2, 0, 3, 1];
    let (plain, permuted) = (run(&bench, &[0, 1, 2, 3]), run(&bench, &order));
    assert_ne!(plain.manifest.run, permuted.manifest.run);
    assert_eq!(
        plain.manifest.counts.n_computed, permuted.manifest.counts.n_computed,
        "the same requests"
    );
    let want = in_order(&plain, &order);
    assert_eq!(permuted.choices.len(), want.len());
    for (got, want) in permuted.choices.iter().zip(want) {
        let of = |it: &StoredChoice| (it.variant.clone(), it.example_id.clone(), it.choice.clone());
        assert_eq!(of(got), of(want));
        assert_eq!(got.is_target, want.is_target, "{got:?}");
        assert_eq!(
            got.loglikelihood.to_bits(),
            want.loglikelihood.to_bits(),
            "{got:?} {want:?}"
        );
        assert_eq!(got.n_tokens, want.n_tokens, "{got:?}");
        // A share is a sum over all choices, which is added in their order.
        let gap = got.prior.unwrap() - want.prior.unwrap();
        assert!(gap.abs() < 1e-12, "{got:?} {want:?}");
    }
    for (got, want) in permuted.cases.iter().zip(&plain.cases) {
        assert_eq!(got.loglikelihood, want.loglikelihood, "{got:?}");
        let predicted = got.predicted_choice.map(|it| order[it]);
        assert_eq!(predicted, want.predicted_choice, "{got:?}");
        let target = got.target_choice.map(|it| order[it]);
        assert_eq!(target, want.target_choice, "{got:?}");
    }
    assert_eq!(permuted.metrics.len(), plain.metrics.len());
    for (got, want) in permuted.metrics.iter().zip(&plain.metrics) {
        assert_eq!((&got.metric, &got.variant), (&want.metric, &want.variant));
        match (got.value, want.value) {
            (Some(got), Some(want)) => assert!((got - want).abs() < 1e-12, "{got} {want}"),
            (got, want) => assert_eq!(got, want),
        }
    }
}
