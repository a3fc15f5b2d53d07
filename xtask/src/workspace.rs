//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The workspace's own folder.
#[must_use]
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// What was built or fetched and outlives `cargo clean`: `$TWTRACE_CACHE`, or `.cache` in the workspace.
#[must_use]
pub fn cache() -> PathBuf {
    folder("TWTRACE_CACHE", ".cache")
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    folder("CARGO_TARGET_DIR", "target")
}

/// The kernel side, a workspace of its own.
#[must_use]
pub fn ebpf() -> PathBuf {
    root().join("twtrace-ebpf")
}

/// The committed eBPF object, relative to [`root`].
pub const OBJECT: &str = "twtrace-probe/bpf/twtrace.bpf.o";

/// The digest of [`OBJECT`] and its sources, relative to [`root`].
pub const DIGEST: &str = "twtrace-probe/bpf/twtrace.bpf.digest";

fn folder(variable: &str, default: &str) -> PathBuf {
    let path = match env::var_os(variable) {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => return root().join(default),
    };
    std::path::absolute(&path).unwrap_or(path)
}

/// `$CARGO_HOME`, or cargo's default for it.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}
