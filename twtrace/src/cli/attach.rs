//! Arguments of commands that can read a running agent.

use super::{FilterArgs, KernelArgs, usage};
use crate::attach::{DEFAULT, Target};
use clap::Args;
use std::path::PathBuf;
use twtrace_core::state::Filter;

/// Which agent to read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Agent")]
pub struct AttachArgs {
    /// Read a running agent instead of tracing; needs no root [default address: 127.0.0.1:9790]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = DEFAULT)]
    pub attach: Option<Target>,

    /// File with the agent's token
    #[arg(long, value_name = "FILE", requires = "attach")]
    pub token_file: Option<PathBuf>,

    /// The agent's certificate, or that of the authority that signed it, in PEM form; for https://HOST:PORT
    #[arg(long, value_name = "FILE", requires = "attach")]
    pub ca: Option<PathBuf>,
}

impl AttachArgs {
    /// What to call the agent.
    pub(crate) fn name(&self) -> String {
        self.attach.as_ref().map(|target| format!("agent at {target}")).unwrap_or_default()
    }

    /// The agent to read, if there is one. It shows all that it traces: there is nothing to choose.
    ///
    /// # Errors
    /// A filter is given, or settings of a trace.
    pub(crate) fn agent(&self, filter: &FilterArgs, kernel: Option<&KernelArgs>) -> Result<Option<&Self>, clap::Error> {
        if self.attach.is_none() {
            return Ok(None);
        }
        if filter.filter() != Filter::default() {
            return Err(usage("--attach shows all that the agent traces: leave filters out, or press / on the screen"));
        }
        if kernel.is_some_and(KernelArgs::is_given) {
            return Err(usage("--attach reads a trace that runs already: leave the settings of the kernel side out"));
        }
        Ok(Some(self))
    }
}
