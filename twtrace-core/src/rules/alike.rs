//! The same finding about many destinations of one process is one finding, about the worst of them and their number.

use super::context::DESTINATIONS;
use crate::evidence::Evidence;
use crate::finding::{Effect, Finding};

/// Merges them. `found` is in order: of those that are alike, the first is kept.
pub(super) fn merge(found: Vec<Finding>) -> Vec<Finding> {
    let mut groups: Vec<Vec<Finding>> = Vec::new();
    for finding in found {
        match groups.iter_mut().find(|group| are_alike(&group[0], &finding)) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups.into_iter().flat_map(|group| if group.len() < DESTINATIONS { group } else { vec![one(&group)] }).collect()
}

fn are_alike(one: &Finding, other: &Finding) -> bool {
    one.process.is_some()
        && one.destination.is_some()
        && other.destination.is_some()
        && (one.rule, one.process, one.cause, one.active, one.severity)
            == (other.rule, other.process, other.cause, other.active, other.severity)
        && one.title == other.title
}

fn one(group: &[Finding]) -> Finding {
    let mut finding = group[0].clone();
    finding.title.push_str(&format!("; the same for {} other destinations", group.len() - 1));
    finding.evidence.insert(0, Evidence::Destinations(group.len() as u64));
    let others = || group.iter().skip(1);
    for advice in &mut finding.advice {
        let id = advice.id;
        let same = || others().flat_map(|other| &other.advice).filter(move |other| other.id == id);
        for effect in advice.effect.iter_mut().filter(|effect| is_sum(effect)) {
            let figure = effect.figure;
            for other in same().flat_map(|advice| &advice.effect).filter(|other| other.figure == figure) {
                effect.from += other.from;
                effect.to += other.to;
            }
        }
    }
    finding
}

/// Whether the figures of destinations add up.
fn is_sum(effect: &Effect) -> bool {
    matches!(
        effect.figure,
        "time_wait_created_per_s"
            | "connect_failures_per_s"
            | "bind_failures_per_s"
            | "resets_per_s"
            | "time_wait_live"
    )
}
