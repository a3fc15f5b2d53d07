//! Arguments of `export`.

use super::{TimeSpec, parse};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use twtrace_recording::export::Table;

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The recording; several with --dataset
    #[arg(required = true, value_name = "DIR.twt")]
    pub recordings: Vec<PathBuf>,

    /// Add the recordings to a dataset of many hosts in this directory: Parquet files by table, host and day. What was
    /// exported of them before is replaced
    #[arg(long, value_name = "DIR", conflicts_with_all = ["format", "output", "from", "to"])]
    pub dataset: Option<PathBuf>,

    /// Form of the file
    #[arg(long, value_enum, required_unless_present = "dataset")]
    pub format: Option<ExportFormat>,

    /// File to write; it appears under this name when it is complete [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Which table [default: connections; all with --dataset]
    #[arg(long, value_name = "TABLE", value_parser = parse::tables())]
    pub table: Option<Table>,

    /// Only what happened from this moment on: 2026-09-21T14:13:20Z, 14:13:20 (UTC), +90s from the start, -5m from the
    /// end
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<TimeSpec>,

    /// Only what happened before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<TimeSpec>,
}

/// Form of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Apache Parquet
    Parquet,
    /// CSV, the names of columns first
    Csv,
    /// One JSON object a line
    Jsonl,
}
