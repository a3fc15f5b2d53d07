//! What uses the ports of a destination.

use crate::event::CensusState;
use crate::ports::Budget;

/// What uses the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PortUse {
    TimeWait,
    /// Open connections, most of them in neither of the next two states.
    Open,
    CloseWait,
    SynSent,
    Bound,
    /// Most are in use since the last census, or were before the first one.
    Unknown,
}

impl PortUse {
    /// Whether an open socket in that state is one of those that use the ports.
    pub(super) fn is_of(self, state: CensusState) -> bool {
        match self {
            Self::Open | Self::Bound => state.is_connection(),
            Self::CloseWait => state == CensusState::CloseWait,
            Self::SynSent => state == CensusState::SynSent,
            Self::TimeWait | Self::Unknown => false,
        }
    }
}

/// `no_port`: a connect found no port at that time.
pub(super) fn port_use(budget: &Budget, no_port: bool) -> PortUse {
    let not_seen = if no_port { budget.not_seen() } else { 0 };
    let seen = budget.established + budget.other;
    if 2 * not_seen > budget.total && not_seen > 2 * budget.time_wait.max(seen).max(budget.bound) {
        return PortUse::Unknown;
    }
    let open = seen + not_seen;
    let most = budget.time_wait.max(open).max(budget.bound);
    if most == budget.time_wait {
        PortUse::TimeWait
    } else if most == open && 2 * budget.close_wait >= open {
        PortUse::CloseWait
    } else if most == open && 2 * budget.syn_sent >= open {
        PortUse::SynSent
    } else if most == open {
        PortUse::Open
    } else {
        PortUse::Bound
    }
}
