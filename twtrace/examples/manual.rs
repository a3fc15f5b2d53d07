//! Writes the man pages and the completions of the shells, for packages:
//! `cargo run -p twtrace --example manual -- FOLDER`.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use std::fs;
use std::path::PathBuf;
use twtrace::cli::Cli;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("give a folder to write into")?);
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    clap_mangen::generate_to(Cli::command(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "twtrace", &completions).context("cannot write the completions")?;
    }
    Ok(())
}
