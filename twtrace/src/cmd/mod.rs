//! One command a file.

pub mod doctor;
