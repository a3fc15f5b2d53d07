//! `twtrace diff`: did the fix help?

use crate::cli::{DiffArgs, DiffFormat};
use crate::recorded::{Recorded, Span, say_losses};
use std::io::{self, BufWriter, Write as _};
use twtrace_view::diff::{Diff, json, markdown, text};
use twtrace_view::report::Options;

/// Reads both recordings and reports what changed.
///
/// # Errors
/// One of them cannot be read at all, or the output cannot be written to.
pub fn run(args: &DiffArgs) -> anyhow::Result<()> {
    let read = |path| Recorded::read(path, args.filter.filter(), Span::default());
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let diff = Diff::new(before.source(), after.source(), Options { by: args.by, top: args.top });
    say_losses(&diff.losses());
    let mut out = BufWriter::new(io::stdout().lock());
    match args.format {
        DiffFormat::Text => text::write(&diff, &mut out),
        DiffFormat::Json => json::write(&diff, &mut out),
        DiffFormat::Markdown => markdown::write(&diff, &mut out),
    }?;
    Ok(out.flush()?)
}
