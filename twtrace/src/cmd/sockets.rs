//! `twtrace sockets`: trace for a while, then list the live timewait sockets with their owners.

use super::top;
use crate::cli::SocketsArgs;
use crate::source::live::{Live, LiveOptions};
use crate::view::sockets as view;
use std::io::{self, BufWriter, Write as _};

/// Traces, then lists.
///
/// # Errors
/// It cannot trace here, or the output cannot be written to.
pub fn run(args: &SocketsArgs) -> anyhow::Result<()> {
    let mut live = Live::start(&LiveOptions { load: args.kernel.load() })?;
    let engine = top::trace(&mut live, args.filter.filter(), args.duration)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        view::write_json(engine.model(), args.limit, &mut out)?;
    } else {
        view::write_text(engine.model(), args.limit, &mut out)?;
    }
    out.flush()?;
    if !args.json {
        // Beside the list, as tcpdump does: what reads the list reads lines of sockets alone.
        let _ = writeln!(io::stderr(), "{}", view::summary(engine.model()));
    }
    Ok(())
}
