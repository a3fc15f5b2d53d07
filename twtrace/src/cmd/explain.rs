//! `twtrace explain`: a few lines on a topic, with sources.

use crate::cli::ExplainArgs;
use std::io::{self, BufWriter, Write as _};
use twtrace_view::explain as view;

/// Writes the topic's text, or the list of topics.
///
/// # Errors
/// There is no such topic; the output cannot be written to.
pub fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match args.topic()? {
        Some(topic) => view::write(topic, &mut out)?,
        None => view::write_list(&mut out)?,
    }
    Ok(out.flush()?)
}
