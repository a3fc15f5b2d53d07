//! Decides which eBPF object is embedded: the committed one, or with the feature `build-ebpf` one that is built now.
//! Its path reaches the crate as `env!("TWTRACE_EMBEDDED_OBJECT")`.

use std::env;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

fn main() {
    let lines = match object() {
        Ok(object) => format!("cargo::rustc-env=TWTRACE_EMBEDDED_OBJECT={}\n", object.display()),
        Err(error) => format!("cargo::error={error}\n"),
    };
    // Cargo waits for these lines. If it is gone, nothing can be reported.
    let _ = stdout().write_all(lines.as_bytes());
}

#[cfg(not(feature = "build-ebpf"))]
fn object() -> Result<PathBuf, String> {
    let package = env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?;
    let object = Path::new(&package).join("bpf/twtrace.bpf.o");
    rerun_if_changed(&object);
    if !object.is_file() {
        let _ = writeln!(stdout(), "cargo::warning={} is missing: run `cargo xtask build-ebpf`", object.display());
    }
    Ok(object)
}

#[cfg(feature = "build-ebpf")]
fn object() -> Result<PathBuf, String> {
    use xtask::{ebpf, workspace};

    for source in ["twtrace-ebpf/Cargo.toml", "twtrace-ebpf/Cargo.lock", "twtrace-ebpf/src", "twtrace-common/src"] {
        rerun_if_changed(&workspace::root().join(source));
    }
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let object = Path::new(&folder).join("twtrace.bpf.o");
    ebpf::Toolchain::find()
        .and_then(|toolchain| ebpf::build(&toolchain, &object))
        .map_err(|error| format!("the eBPF object: {error:#}"))?;
    Ok(object)
}

fn rerun_if_changed(path: &Path) {
    let _ = writeln!(stdout(), "cargo::rerun-if-changed={}", path.display());
}
