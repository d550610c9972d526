//! Exit codes: what a script learns without reading a word.
//!
//! Every end of the program is an [`Exit`]. Where several things ended in one command, the
//! worst counts: combine them with [`Exit::worst`]. The numbers are a contract, shown by
//! `harness --help`, and never change their meaning.

use std::process::ExitCode;

/// How the program ended, from best to worst: a later one outweighs an earlier one.
///
/// The numbers are not discriminants, since those would decide the derived order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Exit {
    /// Done; every gate passed or was not evaluated because there is no baseline yet.
    #[default]
    Done,
    /// No gate failed, but one is inconclusive and says that fails.
    Inconclusive,
    /// A gate failed: regressed or below its floor.
    GateFailed,
    /// More cases without a score than allowed; what was scored is kept.
    Incomplete,
    /// The command line, the experiment file or an input was refused; nothing ran.
    Refused,
    /// Stopped by Ctrl-C; state kept.
    Interrupted,
    /// Stopped by a request to terminate; state kept.
    Terminated,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::GateFailed => 1,
            Self::Refused => 2,
            Self::Incomplete => 3,
            Self::Inconclusive => 4,
            // 128 + the signal's number, as shells do.
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The one of two that counts.
    #[must_use]
    pub(crate) fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_counts() {
        // The contract: 130/143 > 2 > 3 > 1 > 4 > 0.
        let from_worst = [
            Exit::Terminated,
            Exit::Interrupted,
            Exit::Refused,
            Exit::Incomplete,
            Exit::GateFailed,
            Exit::Inconclusive,
            Exit::Done,
        ];
        assert_eq!(from_worst.map(Exit::code), [143, 130, 2, 3, 1, 4, 0]);
        for (rank, worse) in from_worst.into_iter().enumerate() {
            for better in &from_worst[rank..] {
                assert_eq!(worse.worst(*better), worse);
                assert_eq!(better.worst(worse), worse);
            }
        }
        assert_eq!(Exit::default().code(), 0);
    }
}
