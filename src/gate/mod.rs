//! Rules held against what was observed: did this edit make anything worse?
//!
//! [`judge`] holds one [`Rule`] against one [`Observation`], which gives a [`Finding`]: whether the
//! check passes, and if not, how strongly the numbers speak for a failure. [`decide_all`] then
//! settles all findings of a command at once, because Holm's correction needs their p-values
//! together, and returns one [`Check`] for each. A check that neither passes nor fails says why:
//! too little data is never a pass and never a failure. [`forecast`] tells before a run how many
//! units a rule needs.
//!
//! Pure functions over [`crate::stats`]: which gates cover which variants, and where the values
//! come from, is decided by the caller. Nothing here rounds, prints or draws random numbers.
//!
//! How often these rules err was simulated, the choice of the best variant included: the figures
//! stand in `benches/honesty.md`, and `honesty` recomputes them.

mod check;
mod cover;
mod forecast;
#[cfg(test)]
mod honesty;
#[cfg(test)]
mod honesty_holds;
mod judge;
mod observation;
mod rule;
#[cfg(test)]
mod tests;

pub use check::{Check, Comparison, Label, Outcome, Quantity, Reason, Relation, State, outcome};
pub use cover::{Base, Covered, cover};
pub use forecast::{Forecast, Need, Outlook, forecast};
pub use judge::{Finding, decide_all, judge};
pub use observation::{Observation, Pair, Seen, Unscored, filled};
pub use rule::{Filling, Limit, Rule};

/// Below this many clusters there is no verdict: their spread cannot be told.
pub const MIN_CLUSTERS: usize = 10;

/// Units below which a metric that is no proportion cannot pass `min` or `max`.
const MIN_UNITS_FOR_THRESHOLD: u64 = 30;
