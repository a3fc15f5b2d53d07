//! The package of Fedora, RHEL and SUSE.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{DESCRIPTION, SUMMARY, VERSION};
use crate::process::{run, say, which};

/// Builds it from the files of a package; `None` where there is no rpmbuild.
pub(super) fn build(tree: &Path, work: &Path, out: &Path) -> Result<Option<PathBuf>> {
    if which("rpmbuild").is_none() {
        say("not built: the rpm, for there is no rpmbuild (Debian: apt-get install rpm)");
        return Ok(None);
    }
    let tree = fs::canonicalize(tree)?;
    let spec = work.join("twtrace.spec");
    let text = format!(
        "Name: twtrace\nVersion: {VERSION}\nRelease: 1\nSummary: {SUMMARY}\nLicense: MIT OR Apache-2.0\n\
         AutoReqProv: no\nRequires: glibc >= 2.34, libgcc\n%description\n{DESCRIPTION}\n\
         %install\ncp -a {}/. %{{buildroot}}/\n%files\n/usr/bin/twtrace\n/usr/lib/systemd/system/twtrace-agent.service\n\
         /usr/share/man/man1/*\n/usr/share/doc/twtrace\n/usr/share/bash-completion/completions/twtrace\n\
         /usr/share/zsh/vendor-completions/_twtrace\n/usr/share/fish/vendor_completions.d/twtrace.fish\n",
        tree.display()
    );
    fs::write(&spec, text)?;
    let folder = work.join("rpm");
    let mut command = Command::new("rpmbuild");
    command.args(["-bb", "--quiet", "--target", "x86_64"]);
    command.arg("--define").arg(format!("_topdir {}", folder.display()));
    // Man pages are compressed already, and the program is stripped.
    command.args(["--define", "__os_install_post %{nil}", "--define", "debug_package %{nil}"]).arg(&spec);
    run(&mut command)?;
    let name = format!("twtrace-{VERSION}-1.x86_64.rpm");
    let file = out.join(&name);
    fs::copy(folder.join("RPMS/x86_64").join(&name), &file).context("rpmbuild has written no package")?;
    Ok(Some(file))
}
