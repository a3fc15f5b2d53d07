//! Events with one row for each of their parts.

use anyhow::bail;
use twtrace_core::event::{CensusRow, Event, SocketOwner};

/// The part of such an event that is in one row.
pub(super) enum Part {
    /// A socket that a census saw.
    Census(CensusRow),
    /// A socket that a census no longer saw.
    Removed(u64),
    /// A process that has sockets open; `None` when the search found none at all.
    Owner { at_ns: u64, complete: bool, owner: Option<SocketOwner> },
}

impl Part {
    /// The event, with only this part.
    pub(super) fn begin(self) -> Event {
        match self {
            Self::Census(row) => Event::SocketDump(vec![row]),
            Self::Removed(cookie) => Event::SocketsRemoved(vec![cookie]),
            Self::Owner { at_ns, complete, owner } => {
                Event::SocketOwners { at_ns, complete, rows: owner.into_iter().collect() }
            }
        }
    }

    /// Adds it to the event that an earlier row began.
    pub(super) fn add_to(self, event: &mut Event) -> anyhow::Result<()> {
        match (self, event) {
            (Self::Census(row), Event::SocketDump(rows)) => rows.push(row),
            (Self::Removed(cookie), Event::SocketsRemoved(cookies)) => cookies.push(cookie),
            (Self::Owner { at_ns, complete, owner }, Event::SocketOwners { at_ns: of_all, complete: all, rows })
                if (at_ns, complete) == (*of_all, *all) =>
            {
                rows.extend(owner);
            }
            _ => bail!("rows of one event differ"),
        }
        Ok(())
    }
}
