//! `cargo xtask setup`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::Toolchain;
use crate::process::{cargo, output, run as run_command, say, which};
use crate::python;
use crate::tools::{BPF_LINKER, CARGO_DENY};

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out what only the live tests need: nginx, PostgreSQL and the like
    #[arg(long)]
    pub build_only: bool,
}

/// A Debian package and a program in it, by which it is recognised on other systems.
struct Package {
    name: &'static str,
    program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// What builds the eBPF object and bpf-linker.
const BUILD: [&str; 7] =
    ["build-essential", "cargo-web", "libpolly-22-dev", "llvm-22-dev", "rust-web-clippy", "rust-web-src", "rustc-web"];

/// What the live tests run.
const LIVE: [Package; 35] = [
    package("apache2-utils", "ab"),
    package("bpftool", "bpftool"),
    package("busybox-static", "busybox"),
    package("containerd", "containerd"),
    package("curl", "curl"),
    package("docker.io", "dockerd"),
    package("erlang-base", "escript"),
    package("erlang-inets", "escript"),
    package("golang-go", "go"),
    package("haproxy", "haproxy"),
    package("hitch", "hitch"),
    package("iproute2", "ss"),
    package("iptables", "iptables"),
    package("memcached", "memcached"),
    package("nginx-light", "nginx"),
    package("nodejs", "node"),
    package("openssl", "openssl"),
    package("php-cli", "php"),
    package("php-redis", "php"),
    package("podman", "podman"),
    package("postgresql", "psql"),
    package("postgresql-contrib", "pgbench"),
    package("procps", "sysctl"),
    package("prometheus", "prometheus"),
    package("python3-requests", "python3"),
    package("python3-venv", "python3"),
    package("qemu-system-x86", "qemu-system-x86_64"),
    package("redis-server", "redis-server"),
    package("redis-tools", "redis-cli"),
    package("rpcbind", "rpcbind"),
    package("runc", "runc"),
    package("tmux", "tmux"),
    package("valgrind", "valgrind"),
    package("wrk", "wrk"),
    package("xz-utils", "xz"),
];

/// Installs what is missing, or says what that is and how to get it.
///
/// # Errors
/// Something is missing and cannot be installed from here.
pub fn run(args: &Args) -> Result<()> {
    rust_components()?;
    let live = if args.build_only { &[][..] } else { &LIVE[..] };
    if is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        // Docker's own packages have the same programs, and Debian's would remove them.
        let has_another = |package: &Package| {
            ["containerd", "docker.io"].contains(&package.name)
                && !is_installed(package.name)
                && which(package.program).is_some()
        };
        let live = live.iter().filter(|package| !has_another(package));
        let wanted: Vec<&str> = BUILD.into_iter().chain(live.map(|package| package.name)).collect();
        debian_packages(&wanted)?;
        BPF_LINKER.install()?;
    } else {
        other_system(live)?;
    }
    CARGO_DENY.install()?;
    if !args.build_only {
        python::install()?;
    }
    say(&format!("eBPF toolchain: {}", Toolchain::find()?.version()?));
    Ok(())
}

/// Whether this is Debian itself: its relatives have other Rust packages.
pub(crate) fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line.trim() == "ID=debian")
}

/// rustfmt and clippy of the stable toolchain.
fn rust_components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        output(cargo().args([subcommand, "--version"]))
            .with_context(|| format!("no `cargo {subcommand}`: run `rustup component add {component}`"))?;
    }
    Ok(())
}

/// Installs those of Debian's packages that are missing.
///
/// # Errors
/// This user may not, or one of them cannot be had.
pub(crate) fn debian_packages(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::Uid::effective().is_root() {
        bail!("missing packages, and only root can install them: run `sudo apt-get install {list}`");
    }
    say(&format!("installing {list}"));
    let _quiet = NoServices::begin()?;
    // The package lists may be old or absent. An update takes time, so it runs only if they are not enough.
    if install(&missing).is_err() {
        run_command(Command::new("apt-get").args(["update", "--quiet"]))?;
        install(&missing).with_context(|| {
            format!("cannot install {list}: Debian 12 with its security updates has them all, this system does not")
        })?;
    }
    Ok(())
}

pub(crate) fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    output(&mut query).is_ok_and(|status| status == "installed")
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    run_command(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// While this exists, no package that is installed starts its service: the tests start their own servers, on
/// ports of their own. This is Debian's documented way (`invoke-rc.d(8)`); a policy that is already there stays.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Result<Self> {
        let policy = Path::new(POLICY);
        let ours = !policy.exists();
        if ours {
            fs::write(policy, "#!/bin/sh\nexit 101\n")
                .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {POLICY}"))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // If it stays behind, services that are installed later do not start by themselves; nothing more.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// On other systems nothing is installed: everything that is missing is named at once.
fn other_system(live: &[Package]) -> Result<()> {
    let mut missing: Vec<String> = live
        .iter()
        .filter(|package| which(package.program).is_none())
        .map(|package| format!("`{}` (Debian package {})", package.program, package.name))
        .collect();
    if let Err(error) = Toolchain::find() {
        missing.push(format!("{error:#}"));
    }
    if !missing.is_empty() {
        bail!("this is not Debian, so nothing was installed. Missing: {}", missing.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_recognised_and_its_relatives_are_not() {
        assert!(is_debian("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn packages_that_do_not_exist_are_not_installed() {
        assert!(!is_installed("no-such-package"));
    }
}
