//! Tasks in the order of their tokens, cut into windows.
//!
//! Sorted, tasks with a common beginning stand side by side, whether they are scored
//! or written on. A window is cut so that its trie, the tokens to be read from it and
//! their values stay below a bound, however many tasks there are. What the tasks on
//! both sides of a cut share is computed twice, at most one sequence per cut.

use super::trie::common_prefix;
use crate::request::{Request, Work};

/// A request to answer, with the index under which it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub index: usize,
    pub request: &'a Request,
}

impl<'a> Task<'a> {
    /// The tokens that go through the model, at least one.
    ///
    /// Row `t` of a sequence predicts token `t + 1`, so the last token of a likelihood
    /// is never fed:
    ///
    /// ```text
    /// token          0 1 2 3 | 4 5 6     first_scored = 4
    /// fed            0 1 2 3   4 5
    /// predicted by         3   4 5       rows 3, 4, 5
    /// ```
    pub(crate) fn fed(&self) -> &'a [u32] {
        &self.request.tokens[..self.request.n_positions()]
    }

    /// Tokens whose logprobs are asked for.
    pub(crate) fn n_scored(&self) -> usize {
        match self.request.work {
            Work::Loglikelihood { first_scored } => self.request.tokens.len() - first_scored,
            Work::Generation(_) => 0,
        }
    }

    /// Whether text is to be written after the tokens.
    pub(crate) fn is_generation(&self) -> bool {
        matches!(self.request.work, Work::Generation(_))
    }
}

/// Sorts tasks by what they feed, then by index.
pub(crate) fn sort(tasks: &mut [Task<'_>]) {
    tasks.sort_unstable_by(|a, b| a.fed().cmp(b.fed()).then(a.index.cmp(&b.index)));
}

/// Cuts sorted tasks into windows that cost at most `limit`, or hold one task.
///
/// A task costs 1, the rows that it does not share with the one before, and the tokens
/// it scores.
pub(crate) fn windows<'t, 'a>(tasks: &'t [Task<'a>], limit: usize) -> Windows<'t, 'a> {
    Windows { rest: tasks, limit }
}

/// Windows over sorted tasks.
#[derive(Debug, Clone)]
pub(crate) struct Windows<'t, 'a> {
    rest: &'t [Task<'a>],
    limit: usize,
}

impl<'t, 'a> Iterator for Windows<'t, 'a> {
    type Item = &'t [Task<'a>];

    fn next(&mut self) -> Option<Self::Item> {
        let mut before: &[u32] = &[];
        let mut total = 0;
        let fitting = self.rest.iter().take_while(|it| {
            let fed = it.fed();
            total += 1 + fed.len() - common_prefix(before, fed) + it.n_scored();
            before = fed;
            total <= self.limit
        });
        let n = fitting.count().max(1).min(self.rest.len());
        let (window, rest) = self.rest.split_at(n);
        self.rest = rest;
        (!window.is_empty()).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tasks(requests: &[Request]) -> Vec<Task<'_>> {
        let tasks = requests.iter().enumerate();
        let mut tasks: Vec<_> = tasks
            .map(|(index, request)| Task { index, request })
            .collect();
        sort(&mut tasks);
        tasks
    }

    #[test]
    fn a_window_counts_rows_it_adds_and_tokens_it_scores() {
        let requests = [
            Request::loglikelihood([1, 2, 3, 4], 2),
            Request::loglikelihood([1, 2, 3, 5], 2),
            Request::loglikelihood([1, 2, 9, 9], 3),
        ];
        // The first adds rows 1 2 3 and scores two tokens: 6. The second is fed the same
        // rows: 3. The third adds one row and scores one token: 3.
        let tasks = tasks(&requests);
        let sizes = |limit| -> Vec<usize> { windows(&tasks, limit).map(<[_]>::len).collect() };
        assert_eq!(sizes(12), [3]);
        assert_eq!(sizes(11), [2, 1]);
        assert_eq!(sizes(8), [1, 1, 1]);
        assert_eq!(sizes(0), [1, 1, 1], "a task that costs more stands alone");
        assert_eq!(windows(&[], 5).count(), 0);
    }

    proptest! {
        /// The seams of windows cost at most a sequence each.
        #[test]
        fn windows_hold_every_task_in_order(
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 2..12), 1..30),
            limit in 1usize..60,
        ) {
            let requests: Vec<Request> =
                sequences.into_iter().map(|it| Request::loglikelihood(it, 1)).collect();
            let tasks = tasks(&requests);
            let cut: Vec<usize> =
                windows(&tasks, limit).flatten().map(|it| it.index).collect();
            let whole: Vec<usize> = tasks.iter().map(|it| it.index).collect();
            prop_assert_eq!(cut, whole);
        }
    }
}
