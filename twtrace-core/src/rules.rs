//! The rules. Each has its own file with its check, evidence, advice, confidence, and how to see that a change has
//! helped. Rules keep no state: findings depend on the snapshot alone.

mod advice;
mod alike;
mod bind_before_connect;
mod bound_pool;
mod bucket_overflow;
mod close_wait;
mod connects_fail;
mod context;
mod exhaustion;
mod fin_wait1;
mod fin_wait2;
mod fork_per_request;
mod habit;
mod half_closed;
mod incomplete_trace;
mod lasting;
mod many_destinations;
mod no_reuse;
mod not_accepting;
mod not_time_wait;
mod periodic;
mod pool_bypassed;
mod pool_too_small;
mod port_held;
mod privileged_ports;
mod relay;
mod reset;
mod server_closes_first;
mod settings;

use crate::event::Role;
use crate::evidence::Evidence;
use crate::finding::{Finding, Rule};
use crate::ports::is_loopback;
use crate::snapshot::{DestKey, Snapshot};
use context::{RuleContext, name, pid};
use habit::Habit;
use std::cmp::Reverse;
use std::net::IpAddr;

/// Maximum number of findings. If there are more, only the most severe are kept, and one more finding says how many
/// were left out.
const FINDINGS: usize = 64;

/// The findings of all rules that are wanted, the most severe first.
pub(crate) fn check(snapshot: &Snapshot, wanted: impl Fn(&Finding) -> bool) -> Vec<Finding> {
    let context = RuleContext::of(snapshot);
    let consequences = exhaustion::check(&context);
    let short = consequences.iter().filter_map(|consequence| consequence.finding.destination).collect();
    let mut churn = fork_per_request::check(&context);
    churn.extend(many_destinations::check(&context, &churn, &short));
    let churns = no_reuse::churns(&context, &churn);
    let relays = relay::relays(&context);
    let (relayed, mut churns): (Vec<_>, Vec<_>) =
        churns.into_iter().partition(|(churn, _)| relays.iter().any(|relay| relay.is(churn)));
    relay::blame_clients(&context, &relays, &relayed, &mut churns);
    churn.extend(no_reuse::check(&context, &churns));
    churn.extend(pool_bypassed::check(&context, &churns));
    churn.extend(pool_too_small::check(&context, &churns));
    churn.extend(relay::check(&context, &relays, &relayed, &churn));
    let mut servers = server_closes_first::check(&context);
    let fronts = || relays.iter().flat_map(|relay| &relay.fronts);
    servers.retain(|server| !fronts().any(|front| server.finding.destination == Some(*front)));
    // Neither is one behind a relay, whose clients decide.
    servers.retain(|server| !server.finding.destination.is_some_and(|port| relay::is_behind(&context, &relayed, port)));
    // A server that closes because its clients never reuse a connection is not a separate cause.
    churn.extend(servers.into_iter().filter(|server| !is_explained(server, &churn)).collect::<Vec<_>>());
    churn.extend(bind_before_connect::check(&context));

    let mut regular = periodic::check(&context, &churn);
    // Nor is a server that closes a few regular checks.
    let is_checked = |port| regular.iter().any(|one| one.destination.is_some_and(|to| leads_to(to, port)));
    churn.retain(|habit| {
        habit.finding.rule != Rule::ServerClosesFirst || !habit.finding.destination.is_some_and(is_checked)
    });
    let mut found = Vec::new();
    for consequence in consequences {
        // A cause is reported once, together with its consequence.
        let behind = churn.iter().enumerate().filter(|(_, cause)| consequence.is_led_to_by(cause));
        let most = behind.max_by_key(|(at, cause)| (cause.created, Reverse(*at))).map(|(at, _)| at);
        let finding = match most {
            Some(at) => consequence.because_of(churn.remove(at)),
            None => consequence.finding,
        };
        // Ports that one process has bound run out for all its destinations at the same time.
        let netns = |one: &Finding| one.destination.map(|key| key.netns);
        let is_same = |other: &Finding| {
            let is_its = finding.process.is_some() && other.process == finding.process;
            other.cause == finding.cause && is_its && netns(other) == netns(&finding) && other.active >= finding.active
        };
        if finding.rule == Rule::ExhaustionReached
            || finding.cause != Some(Rule::BindBeforeConnect)
            || !found.iter().any(is_same)
        {
            found.push(finding);
        }
    }
    found.extend(privileged_ports::check(&context, &mut churn));
    found.extend(churn.into_iter().map(|habit| habit.finding));
    regular.retain(|one| one.destination.is_none() || !found.iter().any(|other| one.destination == other.destination));
    found.extend(regular);
    let leaks = close_wait::check(&context);
    let stuck = not_accepting::check(&context);
    let leaking: Vec<DestKey> = leaks.iter().chain(&stuck).filter_map(|leak| leak.destination).collect();
    // What happens at the other end of connections that are not closed is the same story.
    found.retain(|one| one.rule != Rule::ServerClosesFirst || !is_other_end(one, &leaking));
    // And so is that they use up the ports.
    let is_reported = |leak: &Finding| {
        found.iter().any(|one| one.cause == Some(Rule::CloseWaitLeak) && one.destination == leak.destination)
    };
    let leaks = leaks.into_iter().filter(|leak| !is_reported(leak)).collect();
    let leaks = half_closed::check(&context, leaks);
    let is_half_closed = |one: &Finding| {
        leaks.iter().any(|leak| leak.rule == Rule::FinWait2PileUp && leak.destination == one.destination)
    };
    let waiting = fin_wait2::check(&context).into_iter();
    found.extend(waiting.filter(|one| !is_half_closed(one) && !is_other_end(one, &leaking)));
    found.extend(leaks);
    found.extend(stuck);
    // No answer of a server on this host that does not accept is in the finding about that.
    let silent = connects_fail::check(&context);
    let is_explained = |one: &Finding| {
        one.destination.is_some_and(|to| leaking.iter().any(|leak| leads_to(to, *leak)))
            || found.iter().any(|other| other.rule == Rule::ExhaustionReached && other.destination == one.destination)
    };
    let silent: Vec<Finding> = silent.into_iter().filter(|one| !is_explained(one)).collect();
    found.extend(silent);
    // A process that has bound all ports finds none either: that is in the finding already.
    let has_bound = |one: &Finding| {
        let mut others = found.iter().filter(|other| other.cause == Some(Rule::BindBeforeConnect));
        others.any(|other| pid(other.process) == pid(one.process))
    };
    let pools: Vec<Finding> = bound_pool::check(&context).into_iter().filter(|one| !has_bound(one)).collect();
    found.extend(pools);
    for rule in [fin_wait1::check, not_time_wait::check, port_held::check, bucket_overflow::check, reset::check] {
        found.extend(rule(&context));
    }
    reset::join_checks(&mut found);
    found.iter_mut().for_each(|finding| name_the_other(&context, finding));
    found.retain(wanted);
    found.sort_by_key(|finding| {
        let process = finding.process.and_then(|party| party.process);
        (Reverse((finding.active, finding.severity)), finding.rule, finding.destination, process)
    });
    let mut found = alike::merge(found);
    // None is left as none: that is no effect.
    let advice = found.iter_mut().flat_map(|finding| &mut finding.advice);
    advice.for_each(|advice| advice.effect.retain(|effect| effect.from != 0.0 || effect.to != 0.0));
    // That the findings may be incomplete is always reported.
    let left_out = found.len().saturating_sub(FINDINGS);
    found.truncate(FINDINGS);
    found.extend(incomplete_trace::check(&context, left_out));
    found
}

/// Whether a finding is about the other end of connections that `leaking` is about.
fn is_other_end(finding: &Finding, leaking: &[DestKey]) -> bool {
    let Some(place) = finding.destination else { return false };
    leaking.iter().any(|leak| leads_to(*leak, place) || leads_to(place, *leak))
}

/// Where a process opened sockets and another one closed them, both are named.
fn name_the_other(context: &RuleContext<'_>, finding: &mut Finding) {
    let Some(process) = finding.process.and_then(|subject| subject.process) else { return };
    if let Some(closer) = finding.destination.and_then(|key| context.closer_of(key, process)) {
        finding.evidence.push(Evidence::ClosedByPid(closer.key.tgid.into()));
        finding.evidence.push(Evidence::ClosedByCommand(name(closer)));
        if let Some(first) = finding.advice.first_mut().filter(|first| first.id == "pool-connections") {
            first.text.push_str(" It has to keep them, and not to give them to the process that closes them.");
        }
        return;
    }
    let Some((strangers, created)) = context.snapshot.strangers(process) else { return };
    if 2 * strangers.sockets >= created {
        finding.evidence.push(Evidence::OpenedByOthers(strangers.sockets));
        finding.evidence.push(Evidence::OpenerPid(strangers.opener.key.tgid.into()));
    }
}

/// Whether a finding about a listening port is explained by one about the clients that connect to it.
fn is_explained(server: &Habit, openers: &[Habit]) -> bool {
    let Some(port) = server.finding.destination else { return false };
    openers.iter().flat_map(|opener| &opener.destinations).any(|to| leads_to(*to, port))
}

/// Whether connections to a destination are accepted on a port of this host.
fn leads_to(to: DestKey, port: DestKey) -> bool {
    to.role == Role::Active
        && port.role == Role::Passive
        && to
            .remote_addr
            .is_some_and(|remote| place(to.netns, remote, to.port) == place(port.netns, port.local_addr, port.port))
}

/// Where a port is: each namespace has its own loopback addresses.
fn place(netns: u32, address: IpAddr, port: u16) -> (u32, IpAddr, u16) {
    (if is_loopback(address, address) { netns } else { 0 }, address, port)
}
