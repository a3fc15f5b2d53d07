//! One command per file.

pub mod audit;
pub mod budget;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod record;
pub mod replay;
pub mod report;
pub mod sockets;
pub mod top;
