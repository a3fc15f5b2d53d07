//! One command a file.

pub mod audit;
pub mod doctor;
mod doctor_hooks;
pub mod record;
pub mod replay;
pub mod sockets;
pub mod top;
