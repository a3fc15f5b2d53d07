//! The pure core of twtrace: [`input::Input`]s in, [`model`] out. No I/O, no clock, no terminal.

mod account;
mod attribution;
pub mod audit;
pub mod budgets;
mod census;
pub mod changes;
pub mod compare;
pub mod connection;
pub mod decode;
mod ending;
pub mod engine;
pub mod failure;
mod filter;
pub mod finding;
pub mod history;
pub mod input;
mod ledger;
mod live;
pub mod model;
mod namespaces;
pub mod peaks;
pub mod ports;
mod restart;
mod rules;
pub mod sketch;
pub mod source;
mod space;
