//! Draws few-shot examples from a pool: the same ones on every machine.
//!
//! A draw sorts the pool by BLAKE3 of seed, variant and place in the pool, and
//! takes the first that are allowed. Asking for more shots keeps the ones before.

/// Which shots an example gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShotOrder {
    /// One draw per variant, shared by all examples.
    #[default]
    Fixed,
    /// A draw for every example.
    PerExample,
    /// The first ones of the pool.
    First,
}

/// Who draws: the seed, the variant, the example.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// How shots are chosen.
    pub order: ShotOrder,
    /// Seed of the experiment.
    pub seed: u64,
    /// Name of the variant.
    pub variant: &'a str,
    /// Id of the example; matters with [`ShotOrder::PerExample`] only.
    pub example_id: &'a str,
}

/// Returns the indices of `n` shots in a pool of `pool_len`, in prompt order.
///
/// `is_excluded` tells which rows of the pool are the example itself; the next of
/// the draw takes such a row's place, so all other shots stay as they are. Fewer
/// than `n` if the pool has no more.
pub fn draw(
    pool_len: usize,
    n: usize,
    draw: Draw<'_>,
    is_excluded: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pool_len).collect();
    if draw.order != ShotOrder::First {
        let seed = draw_hasher(&draw);
        order.sort_by_cached_key(|index| {
            let mut hasher = seed.clone();
            hasher.update(&(*index as u64).to_le_bytes());
            (*hasher.finalize().as_bytes(), *index)
        });
    }
    order
        .into_iter()
        .filter(|index| !is_excluded(*index))
        .take(n)
        .collect()
}

/// BLAKE3 of the seed, then each name behind its length.
fn draw_hasher(draw: &Draw<'_>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&draw.seed.to_le_bytes());
    let names: &[&str] = match draw.order {
        ShotOrder::PerExample => &[draw.variant, draw.example_id],
        ShotOrder::Fixed | ShotOrder::First => &[draw.variant],
    };
    for name in names {
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
    }
    hasher
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by(
        order: ShotOrder,
        seed: u64,
        variant: &'static str,
        example_id: &'static str,
    ) -> Draw<'static> {
        Draw {
            order,
            seed,
            variant,
            example_id,
        }
    }

    fn none(_: usize) -> bool {
        false
    }

    #[test]
    fn first_takes_the_first_that_are_not_the_example() {
        let first = by(ShotOrder::First, 1, "v", "e");
        assert_eq!(draw(10, 3, first, |index| index == 1), [0, 2, 3]);
        assert_eq!(draw(2, 3, first, none), [0, 1]);
    }

    #[test]
    fn a_fixed_draw_is_shared_by_examples_but_not_by_variants_or_seeds() {
        let fixed = |seed, variant, id| draw(50, 5, by(ShotOrder::Fixed, seed, variant, id), none);
        assert_eq!(fixed(1, "v", "a"), fixed(1, "v", "b"));
        assert_ne!(fixed(1, "v", "a"), fixed(1, "w", "a"));
        assert_ne!(fixed(1, "v", "a"), fixed(2, "v", "a"));
    }

    #[test]
    fn a_draw_per_example_depends_on_the_example() {
        let drawn = |id| draw(50, 5, by(ShotOrder::PerExample, 1, "v", id), none);
        assert_eq!(drawn("a"), drawn("a"));
        assert_ne!(drawn("a"), drawn("b"));
    }

    #[test]
    fn a_pool_of_three_is_drawn_evenly() {
        // 6 orders of 3, 6,000 seeds: each expected 1,000 times, standard deviation
        // sqrt(6000 * 1/6 * 5/6) = 28.9; 5 of those are 144.
        let mut counts = std::collections::HashMap::new();
        for seed in 0..6000 {
            *counts
                .entry(draw(3, 3, by(ShotOrder::Fixed, seed, "v", ""), none))
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|it| (856..=1144).contains(it)),
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn an_example_is_never_among_its_own_shots(
            pool_len in 1_usize..20, n in 0_usize..22, seed: u64, own in 0_usize..20, order in 0..3,
        ) {
            let order = [ShotOrder::Fixed, ShotOrder::PerExample, ShotOrder::First][order as usize];
            let who = by(order, seed, "v", "e");
            let (all, without) = (draw(pool_len, n, who, none), draw(pool_len, n, who, |it| it == own));
            prop_assert!(!without.contains(&own));
            let n_allowed = pool_len - usize::from(own < pool_len);
            prop_assert_eq!(without.len(), n.min(n_allowed));
            // The rest keeps its order; more shots keep the ones before.
            let rest: Vec<usize> = all.iter().copied().filter(|it| *it != own).collect();
            prop_assert!(without.starts_with(&rest));
            prop_assert!(draw(pool_len, n + 1, who, none).starts_with(&all));
        }
    }
}
