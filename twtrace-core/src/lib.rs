//! The pure core of twtrace: [`input::Input`]s in, [`model`] out. No I/O, no clock, no terminal.

mod account;
mod attribution;
pub mod audit;
mod census;
pub mod changes;
pub mod compare;
pub mod connection;
pub mod decode;
mod ending;
pub mod engine;
mod filter;
pub mod history;
pub mod input;
mod ledger;
mod live;
pub mod model;
mod namespaces;
pub mod peaks;
pub mod ports;
mod restart;
pub mod sketch;
pub mod source;
mod space;
