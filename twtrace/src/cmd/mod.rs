//! One command a file.

pub mod audit;
pub mod doctor;
pub mod top;
