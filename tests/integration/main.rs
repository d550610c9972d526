//! Tests of rooms together, and of the binary; one crate, so that it links once.

mod engine_goldens;
mod rooms;
