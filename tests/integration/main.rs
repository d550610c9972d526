//! Tests of rooms together, and of the binary; one crate, so that it links once.

#[cfg(test)]
mod bad_experiments;
#[cfg(test)]
mod builtin;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod engine_goldens;
