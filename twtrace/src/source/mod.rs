//! Where inputs come from.

pub mod live;
