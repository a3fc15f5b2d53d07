//! What several tests share.

pub(crate) mod python;
pub(crate) mod recorded;
