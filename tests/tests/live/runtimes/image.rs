//! An image with nothing but BusyBox, as an archive that every runtime reads.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use twtrace_tests::software::installed;

/// Its name.
pub(super) const NAME: &str = "busybox:local";

/// Runs a command that must succeed, and returns what it wrote to standard output.
pub(super) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn sha256(file: &Path) -> String {
    output(Command::new("sha256sum").arg(file)).split(' ').next().unwrap().to_owned()
}

/// Builds the archive in a folder.
pub(super) fn build(folder: &Path) -> PathBuf {
    let [root, parts] = ["root", "parts"].map(|name| folder.join(name));
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::create_dir_all(&parts).unwrap();
    fs::copy(installed("busybox").unwrap(), root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    output(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(parts.join("layer.tar")).arg("."));
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        // Pods need a process that stays, to keep their namespaces.
        "config": { "Cmd": ["/bin/busybox", "sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&parts.join("layer.tar")))] },
    });
    fs::write(parts.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = folder.join("image.tar");
    let mut tar = Command::new("tar");
    output(tar.arg("-C").arg(&parts).arg("-cf").arg(&archive).args(["manifest.json", "config.json", "layer.tar"]));
    archive
}
