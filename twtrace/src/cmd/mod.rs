//! One command a file.

pub mod doctor;
pub mod top;
