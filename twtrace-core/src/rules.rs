//! The rules.

use crate::finding::Finding;
use crate::model::Model;

/// What all rules find, the gravest first.
pub(crate) fn check(_model: &Model) -> Vec<Finding> {
    Vec::new()
}
