//! One command per file.

pub mod agent;
pub mod audit;
pub mod budget;
pub mod config;
pub mod diff;
pub mod doctor;
pub mod drill;
pub mod explain;
pub mod export;
pub mod record;
pub mod replay;
pub mod report;
pub mod sockets;
pub mod top;
