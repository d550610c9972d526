//! The experiment file as typed data.
