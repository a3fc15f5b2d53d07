//! One view a file. A view reads the model and writes cells or bytes; it never reaches the host or the clock.

pub mod doctor;
