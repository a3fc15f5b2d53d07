//! The rules: each in a file of its own, with its check, its evidence, what it advises, how sure it is and how to see
//! that a change has helped. None of them keeps anything: what they find follows from the model alone.

mod advice;
mod bind_before_connect;
mod bound_pool;
mod bucket_overflow;
mod case;
mod close_wait;
mod exhaustion;
mod fin_wait2;
mod fork_per_request;
mod no_reuse;
mod not_time_wait;
mod periodic;
mod pool_bypassed;
mod port_held;
mod reset;
mod server_closes_first;
mod tracer_doubts;

use crate::finding::{Finding, Rule};
use crate::input::Role;
use crate::model::{DestKey, Model};
use crate::ports::is_loopback;
use case::Case;
use std::cmp::Reverse;
use std::net::IpAddr;

/// Findings that are kept: of more, the gravest.
const FINDINGS: usize = 64;

/// What all rules find, the gravest first.
pub(crate) fn check(model: &Model) -> Vec<Finding> {
    let case = Case::of(model);
    let mut churn = fork_per_request::check(&case);
    churn.extend(no_reuse::check(&case));
    churn.extend(pool_bypassed::check(&case));
    let servers = server_closes_first::check(&case);
    // A server that closes because its clients never come back on the same connection is no cause of its own.
    churn.extend(servers.into_iter().filter(|server| !is_explained(server, &churn)).collect::<Vec<_>>());
    churn.extend(bind_before_connect::check(&case));

    let mut found = exhaustion::check(&case);
    for consequence in &mut found {
        // What leads to it is told once, with what it leads to.
        let destination = consequence.destination;
        let leads = |cause: &Finding| destination.is_some() && cause.destination == destination;
        if let Some(at) = churn.iter().position(leads) {
            consequence.because_of(churn.remove(at));
        }
        churn.retain(|cause| !leads(cause) || cause.rule == Rule::BindBeforeConnect);
    }
    let mut regular = periodic::check(&case);
    regular.retain(|one| !churn.iter().chain(&found).any(|other| one.destination == other.destination));
    found.extend(churn);
    found.extend(regular);
    for rule in [
        bound_pool::check,
        not_time_wait::check,
        port_held::check,
        bucket_overflow::check,
        reset::check,
        close_wait::check,
        fin_wait2::check,
        tracer_doubts::check,
    ] {
        found.extend(rule(&case));
    }
    found.sort_by_key(|finding| {
        let process = finding.process.and_then(|party| party.process);
        (Reverse((finding.holds, finding.severity)), finding.rule, finding.destination, process)
    });
    found.truncate(FINDINGS);
    found
}

/// Whether a finding about a listening port has its cause in one about those who connect to it.
fn is_explained(server: &Finding, openers: &[Finding]) -> bool {
    let Some(port) = server.destination else { return false };
    openers.iter().filter_map(|opener| opener.destination).any(|to| leads_to(to, port))
}

/// Whether connections towards a destination are accepted on a port of this host.
fn leads_to(to: DestKey, port: DestKey) -> bool {
    to.role == Role::Active
        && port.role == Role::Passive
        && to
            .remote_addr
            .is_some_and(|remote| place(to.netns, remote, to.port) == place(port.netns, port.local_addr, port.port))
}

/// Where a port is: loopback addresses are each namespace's own.
fn place(netns: u32, address: IpAddr, port: u16) -> (u32, IpAddr, u16) {
    (if is_loopback(address, address) { netns } else { 0 }, address, port)
}

impl Finding {
    /// This is what another finding leads to: that one's pattern and advice are told here.
    fn because_of(&mut self, cause: Finding) {
        self.cause = Some(cause.rule);
        if cause.process.is_some() {
            self.process = cause.process;
        }
        self.evidence.extend(
            cause
                .evidence
                .into_iter()
                .filter(|(name, _)| {
                    // What both know is told once.
                    !self.evidence.iter().any(|(known, _)| known == name)
                })
                .collect::<Vec<_>>(),
        );
        let known: Vec<&str> = self.advice.iter().map(|advice| advice.id).collect();
        let more: Vec<_> = cause.advice.into_iter().filter(|advice| !known.contains(&advice.id)).collect();
        // To remove the cause is better than to make room for it.
        self.advice.splice(0..0, more);
    }
}
