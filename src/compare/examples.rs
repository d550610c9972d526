//! The examples of a run, column by column, as [`super::Cases`] holds their cases.

use super::columns::{Digests, Texts};
use super::evidence::{ExampleEvidence, ShortDigest};

/// Examples in plan order, some sixty bytes each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    ids: Texts,
    row_digests: Vec<ShortDigest>,
    target_digests: Digests,
    references_digests: Digests,
    /// Texts of those that name a cluster; empty if none does.
    clusters: Texts,
    /// Whether an example names its cluster; as long as `clusters`.
    is_clustered: Vec<bool>,
}

/// One of several examples.
#[derive(Debug, Clone, Copy)]
pub struct ExampleRef<'a> {
    examples: &'a Examples,
    index: usize,
}

impl Examples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.row_digests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row_digests.is_empty()
    }

    /// Adds an example.
    pub fn push(&mut self, example: &ExampleEvidence) {
        let n_before = self.len();
        self.ids.push(&example.id);
        self.row_digests.push(example.row_digest);
        self.target_digests.push(example.target_digest, 0);
        self.references_digests.push(example.references_digest, 0);
        if example.cluster.is_some() || !self.is_clustered.is_empty() {
            // Those before the first that names one.
            for _ in self.is_clustered.len()..n_before {
                self.clusters.push("");
                self.is_clustered.push(false);
            }
            self.clusters
                .push(example.cluster.as_deref().unwrap_or_default());
            self.is_clustered.push(example.cluster.is_some());
        }
    }

    /// The example at an index.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn get(&self, index: usize) -> ExampleRef<'_> {
        assert!(index < self.len(), "example {index} of {}", self.len());
        let examples = self;
        ExampleRef { examples, index }
    }

    /// All examples.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ExampleRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All ids.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(ExampleRef::id)
    }

    /// Changes one example, in time that grows with all of them.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, index: usize, change: impl FnOnce(&mut ExampleEvidence)) {
        assert!(index < self.len(), "there is an example to be changed");
        let mut change = Some(change);
        self.edit_each(|at, example| {
            if at == index
                && let Some(change) = change.take()
            {
                change(example);
            }
        });
    }

    /// Changes every example.
    #[cfg(test)]
    pub(crate) fn edit_each(&mut self, mut change: impl FnMut(usize, &mut ExampleEvidence)) {
        let mut examples: Vec<ExampleEvidence> = self.iter().map(ExampleRef::to_owned).collect();
        let each = examples.iter_mut().enumerate();
        each.for_each(|(index, example)| change(index, example));
        *self = examples.into_iter().collect();
    }
}

impl FromIterator<ExampleEvidence> for Examples {
    fn from_iter<T: IntoIterator<Item = ExampleEvidence>>(examples: T) -> Self {
        let mut all = Self::default();
        examples.into_iter().for_each(|it| all.push(&it));
        all
    }
}

impl<'a> ExampleRef<'a> {
    /// Unique in its dataset.
    pub fn id(self) -> &'a str {
        self.examples.ids.get(self.index)
    }

    /// Digest of its fields.
    pub fn row_digest(self) -> ShortDigest {
        self.examples.row_digests[self.index]
    }

    /// Digest of the target, if there is one; with choices, of the right one.
    pub fn target_digest(self) -> Option<ShortDigest> {
        self.examples.target_digests.get(self.index)
    }

    /// Digest of the references beside the target, if there are any.
    pub fn references_digest(self) -> Option<ShortDigest> {
        self.examples.references_digests.get(self.index)
    }

    /// What it belongs to, if clusters are named.
    pub fn cluster(self) -> Option<&'a str> {
        let is_clustered = self.examples.is_clustered.get(self.index);
        (is_clustered == Some(&true)).then(|| self.examples.clusters.get(self.index))
    }

    /// The example for itself.
    pub fn to_owned(self) -> ExampleEvidence {
        ExampleEvidence {
            id: self.id().to_owned(),
            row_digest: self.row_digest(),
            target_digest: self.target_digest(),
            references_digest: self.references_digest(),
            cluster: self.cluster().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> impl Strategy<Value = ExampleEvidence> {
        let digest = || (0u8..3).prop_map(|it| ShortDigest([it; 16]));
        let maybe = || prop::option::of(digest());
        let cluster = prop::option::of("[a-cé]{0,2}");
        let parts = (".{0,4}", digest(), maybe(), maybe(), cluster);
        parts.prop_map(
            |(id, row_digest, target_digest, references_digest, cluster)| ExampleEvidence {
                id,
                row_digest,
                target_digest,
                references_digest,
                cluster,
            },
        )
    }

    proptest! {
        /// Columns are a matter of memory: whatever goes in comes out.
        #[test]
        fn examples_come_back_as_they_went_in(examples in prop::collection::vec(example(), 0..9)) {
            let packed: Examples = examples.iter().cloned().collect();
            let back: Vec<ExampleEvidence> = packed.iter().map(ExampleRef::to_owned).collect();
            prop_assert_eq!((packed.len(), packed.is_empty()), (back.len(), back.is_empty()));
            prop_assert_eq!(back, examples);
        }
    }
}
