//! Connections that are aborted with a reset: no TIME_WAIT, but data may be lost.

use super::advice::effect;
use super::context::{MANY, RuleContext};
use super::periodic::is_of_rhythm;
use crate::evidence::Evidence;
use crate::finding::{Advice, Confidence, Finding, Rule, Severity, Subject};

pub(super) fn check(context: &RuleContext<'_>) -> Vec<Finding> {
    context
        .pairs
        .iter()
        .filter_map(|pair| {
            let pattern = &pair.pair.pattern;
            let (linger, unread) = (u64::from(pattern.linger_aborts), u64::from(pattern.unread_aborts));
            // A health check that aborts before any data is sent loses nothing.
            let aborts = (linger + unread).saturating_sub(pattern.empty_aborts.into());
            if aborts < MANY || 2 * aborts < pattern.connections() {
                return None;
            }
            // A program that ends aborts all that it had open: that is no rate.
            let seconds = pattern.ended_ns.saturating_sub(pattern.first_ns) as f64 / 1e9;
            let rate_per_s = aborts as f64 / seconds.max(1.0);
            let by_linger = linger >= unread;
            // As load balancers do: the answer is all that they want, and they keep no socket in TIME_WAIT.
            let is_check = by_linger && pattern.opened > 0 && is_of_rhythm(pattern, pattern.rate_per_s());
            let (title, text) = if is_check {
                (
                    "ends regular checks with a reset (SO_LINGER 0): harmless if it has read the answer",
                    "No change is needed: the peer's log may show resets, and nothing is lost that the check wants.",
                )
            } else if by_linger {
                (
                    "closes with a reset (SO_LINGER 0): no TIME_WAIT, but data may be lost",
                    "Do not set SO_LINGER, and close normally. To avoid TIME_WAIT, reuse connections. The reset \
                     discards data that is not acknowledged yet, and the peer's read fails with ECONNRESET.",
                )
            } else {
                (
                    "closes with unread data: the kernel sends a reset, no TIME_WAIT, but data may be lost",
                    "Read to the end before close(2), or call shutdown(2) and wait for the peer. The reset may discard \
                     data that the peer has not read yet.",
                )
            };
            Some(Finding {
                rule: Rule::ResetInsteadOfClose,
                severity: if is_check { Severity::Info } else { Severity::Warning },
                active: context.goes_on(pattern.ended_ns, rate_per_s),
                process: Some(Subject::of(pair.owner)),
                destination: Some(pair.key),
                cause: None,
                title: title.to_owned(),
                evidence: vec![
                    Evidence::Aborts(aborts),
                    Evidence::BySoLinger(linger),
                    Evidence::WithUnreadData(unread),
                    Evidence::Connections(pattern.connections()),
                    Evidence::RatePerS(rate_per_s),
                ],
                advice: vec![Advice {
                    id: "read-before-close",
                    text: text.to_owned(),
                    command: None,
                    effect: vec![effect("resets_per_s", rate_per_s, 0.0)],
                    risk: "TIME_WAIT sockets come back at the side that closes first: they protect later connections."
                        .to_owned(),
                }],
                confidence: Confidence::High,
                recheck: "After the change its connections end with a FIN.".to_owned(),
            })
        })
        .collect()
}

/// Regular checks that end with a reset are one finding: the resets are said with it.
pub(super) fn join_checks(found: &mut Vec<Finding>) {
    let is_harmless = |one: &Finding| one.rule == Rule::ResetInsteadOfClose && one.severity == Severity::Info;
    let (resets, mut others): (Vec<_>, Vec<_>) = found.drain(..).partition(is_harmless);
    let process = |finding: &Finding| finding.process.and_then(|subject| subject.process);
    let is_aborts = |one: &Evidence| if let Evidence::Aborts(aborts) = one { Some(*aborts) } else { None };
    for reset in resets {
        let checks = |one: &Finding, destination| {
            one.rule == Rule::PeriodicChecks && one.destination == destination && process(one) == process(&reset)
        };
        let at = others.iter().position(|one| checks(one, reset.destination));
        let Some(at) = at.or_else(|| others.iter().position(|one| checks(one, None))) else {
            others.push(reset);
            continue;
        };
        let aborts = reset.evidence.iter().find_map(is_aborts).unwrap_or(0);
        match others[at].evidence.iter_mut().find(|one| is_aborts(one).is_some()) {
            // Checks of many destinations are one finding.
            Some(sum) => *sum = Evidence::Aborts(is_aborts(sum).unwrap_or(0) + aborts),
            None => {
                others[at].title.push_str("; each ends with a reset, which is harmless if it has read the answer");
                others[at].evidence.push(Evidence::Aborts(aborts));
            }
        }
    }
    *found = others;
}
