//! One command a file.

pub mod audit;
pub mod budget;
pub mod diff;
pub mod doctor;
mod doctor_hooks;
pub mod explain;
pub mod export;
pub mod record;
mod recorded;
pub mod replay;
pub mod report;
pub mod sockets;
pub mod top;
