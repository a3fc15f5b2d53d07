//! What is wrong where no local port is left. `plain`: TIME_WAIT has no part in it.

use super::PortUse;

/// The process that has the ports is not the one that fails.
pub(super) fn of_another(port_use: PortUse, plain: bool) -> &'static str {
    match (port_use, plain) {
        (PortUse::Bound, true) => {
            "has bound the local ports that another process needs: its connect(2) fails, and this is not TIME_WAIT"
        }
        (PortUse::Bound, false) => "has bound most of the local ports that another process needs: its connect(2) fails",
        (PortUse::Open, true) => {
            "has the local ports in open connections: connect(2) of another process fails, and this is not TIME_WAIT"
        }
        (PortUse::Open, false) => {
            "has most of the local ports in open connections: connect(2) of another process fails"
        }
        (PortUse::TimeWait, _) => "has the local ports in TIME_WAIT sockets: connect(2) of another process fails",
        (PortUse::CloseWait | PortUse::SynSent | PortUse::Unknown, _) => of_its_own(port_use, plain),
    }
}

/// It is.
pub(super) fn of_its_own(port_use: PortUse, plain: bool) -> &'static str {
    match (port_use, plain) {
        (PortUse::Unknown, _) => "finds no local port: connect(2) fails, and what has the ports is not known yet",
        (PortUse::TimeWait, _) => "finds no local port: connect(2) fails, TIME_WAIT sockets use the ports",
        (PortUse::Open, true) => {
            "finds no local port: connect(2) fails, open connections use the ports: this is not TIME_WAIT"
        }
        (PortUse::Open, false) => "finds no local port: connect(2) fails, open connections use most of the ports",
        (PortUse::CloseWait, true) => {
            "finds no local port: connections that it does not close hold them (CLOSE_WAIT): this is not TIME_WAIT"
        }
        (PortUse::CloseWait, false) => {
            "finds no local port: connections that it does not close hold most of them (CLOSE_WAIT)"
        }
        (PortUse::SynSent, true) => {
            "finds no local port: connects that get no answer hold them (SYN_SENT): this is not TIME_WAIT"
        }
        (PortUse::SynSent, false) => "finds no local port: connects that get no answer hold most of them (SYN_SENT)",
        (PortUse::Bound, true) => {
            "finds no local port: connect(2) fails, bound sockets use the ports: this is not TIME_WAIT"
        }
        (PortUse::Bound, false) => "finds no local port: connect(2) fails, bound sockets use most of the ports",
    }
}
