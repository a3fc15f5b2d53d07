//! One command a file.

pub mod audit;
pub mod diff;
pub mod doctor;
mod doctor_hooks;
mod recorded;
pub mod report;
pub mod sockets;
pub mod top;
