//! The pure core of twtrace: [`input::Input`]s in, [`model`] out. No I/O, no clock, no terminal.
pub mod connection;
pub mod input;
pub mod model;
