//! The pure core of twtrace: [`input::Input`]s in, [`model`] out. No I/O, no clock, no terminal.
pub mod connection;
pub mod decode;
pub mod engine;
pub mod input;
pub mod model;
pub mod ports;
pub mod sketch;
