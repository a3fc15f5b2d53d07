//! One view per file. A view reads the model and writes cells or bytes; it never accesses the host, the clock or a
//! command.

pub mod budget;
pub mod columns;
pub mod csv;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod failures;
pub mod findings;
#[cfg(test)]
mod fits;
pub mod focus;
pub mod grid;
mod html;
pub mod json;
pub mod label;
pub mod live;
pub mod metrics;
pub mod order;
pub mod ports;
pub mod recording;
pub mod report;
#[cfg(test)]
mod schema;
pub mod sockets;
pub mod table;
pub mod text;
mod timeline;
pub mod trend;
pub mod what_if;
pub mod words;
