//! What a reader must know of a metric to interpret, compare and gate its values.

/// What kind of number a metric is over many cases; it decides which interval and test apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The share of cases with value 1; every case has value 0 or 1.
    Proportion,
    /// The mean of the cases' values.
    Mean,
    /// A function of the cases' summed statistics; no mean of the cases' values.
    Corpus,
}

/// Which way a metric gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A gain is an increase.
    HigherIsBetter,
    /// A gain is a decrease; of the text metrics only TER.
    LowerIsBetter,
}

/// How a metric's values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Values are fractions of 1, printed times 100: a value as `%`, a difference as `pp`.
    Percent,
    /// Values are points and are printed as they are; a perfect BLEU is 100.
    Points,
}

/// The smallest and the largest value a metric can take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

/// A metric's name and how to read its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// The metric's name as written after `use`, e.g. `chrf++`.
    pub name: &'static str,
    /// Which kind of number it is over many cases.
    pub kind: Kind,
    /// Which way it gets better.
    pub direction: Direction,
    /// How its values are printed.
    pub unit: Unit,
    /// Its bounds; absent for TER, which starts at 0 and has no upper bound.
    pub range: Option<Range>,
}
