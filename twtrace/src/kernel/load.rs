//! Loads and attaches the eBPF object.

use std::path::Path;
use twtrace_core::input::Hook;

/// Tries every hook, then lets go of them again.
pub fn try_hooks(_object: Option<&Path>) -> anyhow::Result<Vec<Hook>> {
    anyhow::bail!("not built yet")
}
