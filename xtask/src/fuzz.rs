//! `cargo xtask fuzz`: feeds arbitrary input to the code that reads data from outside.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process::{cargo, run as run_command, say};
use crate::tools::{CARGO_FUZZ, plain};
use crate::workspace::{root, target};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only these targets [default: all]
    targets: Vec<String>,
}

/// Runs the targets for as long as asked. What they find is added to `fuzz/corpus`.
///
/// # Errors
/// A target crashed, or it does not build.
pub fn run(args: &Args) -> Result<()> {
    let program = CARGO_FUZZ.install()?;
    let targets =
        if args.targets.is_empty() { targets(&root().join("fuzz/fuzz_targets"))? } else { args.targets.clone() };
    for name in targets {
        say(&format!("\nfuzzing {name} for {} s", args.seconds));
        let mut command = cargo();
        plain(&mut command);
        // `cargo fuzz` looks for itself on the path. The stable compiler has no sanitizer, so only a panic or an
        // allocation beyond the limit is a crash.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = program.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders)?);
        command
            .args(["fuzz", "run", "--sanitizer", "none", "--features", "libfuzzer", "--target-dir"])
            .arg(target().join("fuzz"));
        command.args([&name, "--", "-rss_limit_mb=1024", "-malloc_limit_mb=512", "-print_final_stats=1"]);
        command.arg("-timeout=60").arg(format!("-max_total_time={}", args.seconds));
        run_command(&mut command)?;
    }
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && path.extension().is_some_and(|extension| extension == "rs")
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
