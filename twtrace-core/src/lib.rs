//! The pure core of twtrace: [`event::Event`]s change a [`state::State`], and a [`snapshot::Snapshot`] is taken from
//! it. No I/O, no clock, no terminal.

pub mod asked;
pub mod audit;
pub mod changes;
pub mod classify;
pub mod compare;
mod containers;
pub mod counts;
pub mod decode;
pub mod doctor;
pub mod event;
pub mod evidence;
mod facts;
pub mod failure;
mod filter;
pub mod finding;
pub mod history;
mod keys;
pub mod netns;
mod parts;
pub mod pattern;
pub mod peaks;
pub mod plain;
pub mod plan;
pub mod ports;
pub mod program;
mod recent;
pub mod recording;
mod rules;
pub mod sketch;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod strangers;
mod summary;
mod table;
pub mod what_if;
