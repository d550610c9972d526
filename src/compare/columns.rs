//! Lists with one entry per example or case, in as few bytes as they need.

use std::collections::BTreeMap;

use crate::score::Likelihood;

use super::evidence::ShortDigest;

/// Many short texts behind one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |it| self.ends[it]);
        &self.text[start..self.ends[index]]
    }
}

/// Digests, or the one that all have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Digests {
    Same(Option<ShortDigest>, usize),
    Each(Vec<Option<ShortDigest>>),
}

impl Default for Digests {
    fn default() -> Self {
        Self::Same(None, 0)
    }
}

impl Digests {
    /// Adds a digest; there will be `room` of them, if that is known.
    pub(super) fn push(&mut self, digest: Option<ShortDigest>, room: usize) {
        match self {
            Self::Same(same, n) if *n == 0 || *same == digest => {
                *same = digest;
                *n += 1;
            }
            Self::Same(same, n) => {
                let mut each = Vec::with_capacity(room.max(*n + 1));
                each.resize(*n, *same);
                each.push(digest);
                *self = Self::Each(each);
            }
            Self::Each(each) => each.push(digest),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<ShortDigest> {
        match self {
            Self::Same(same, _) => *same,
            Self::Each(each) => each[index],
        }
    }
}

/// Likelihoods of targets, 17 bytes each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Likelihoods {
    loglikelihoods: Vec<f64>,
    n_tokens: Vec<u32>,
    n_bytes: Vec<u32>,
    flags: Vec<u8>,
    /// Those with more tokens or bytes than the columns can say; none of a text in memory.
    huge: BTreeMap<usize, Likelihood>,
}

impl Likelihoods {
    const IS_THERE: u8 = 1;
    const GREEDY_MATCH: u8 = 2;
    const BOUNDARY_MERGE: u8 = 4;

    pub(super) fn with_capacity(n: usize) -> Self {
        Self {
            loglikelihoods: Vec::with_capacity(n),
            n_tokens: Vec::with_capacity(n),
            n_bytes: Vec::with_capacity(n),
            flags: Vec::with_capacity(n),
            huge: BTreeMap::new(),
        }
    }

    pub(super) fn push(&mut self, likelihood: Option<Likelihood>) {
        let (mut counts, mut flags) = ((0, 0), 0);
        if let Some(it) = likelihood {
            let fitting = (u32::try_from(it.n_tokens), u32::try_from(it.n_bytes));
            if let (Ok(n_tokens), Ok(n_bytes)) = fitting {
                counts = (n_tokens, n_bytes);
            } else {
                self.huge.insert(self.flags.len(), it);
            }
            let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
            flags = Self::IS_THERE
                | flag(it.greedy_match, Self::GREEDY_MATCH)
                | flag(it.boundary_merge, Self::BOUNDARY_MERGE);
        }
        let loglikelihood = likelihood.map_or(0.0, |it| it.loglikelihood);
        self.loglikelihoods.push(loglikelihood);
        self.n_tokens.push(counts.0);
        self.n_bytes.push(counts.1);
        self.flags.push(flags);
    }

    pub(super) fn get(&self, index: usize) -> Option<Likelihood> {
        let has = |flag: u8| self.flags[index] & flag != 0;
        if let Some(huge) = self.huge.get(&index) {
            return Some(*huge);
        }
        has(Self::IS_THERE).then(|| Likelihood {
            loglikelihood: self.loglikelihoods[index],
            n_tokens: self.n_tokens[index] as usize,
            n_bytes: self.n_bytes[index] as usize,
            greedy_match: has(Self::GREEDY_MATCH),
            boundary_merge: has(Self::BOUNDARY_MERGE),
        })
    }
}
