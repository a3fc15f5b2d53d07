//! The same finding about many destinations of one process is one finding, about the worst of them and their number.

use super::context::DESTINATIONS;
use crate::evidence::Evidence;
use crate::finding::{Effect, Finding, Rule, Severity, Subject};
use crate::table::Map;

/// What such findings have in common.
type Kind<'a> = (Rule, Option<Subject>, Option<Rule>, bool, Severity, &'a str);

/// Merges them. The order stays.
pub(super) fn merge(mut found: Vec<Finding>) -> Vec<Finding> {
    let mut groups: Map<Kind<'_>, Vec<usize>> = Map::default();
    for (at, finding) in found.iter().enumerate() {
        if finding.process.is_some() && finding.destination.is_some() {
            let kind = (
                finding.rule,
                finding.process,
                finding.cause,
                finding.active,
                finding.severity,
                finding.title.as_str(),
            );
            groups.entry(kind).or_default().push(at);
        }
    }
    let groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() >= DESTINATIONS).collect();
    let mut gone = vec![false; found.len()];
    for group in groups {
        let merged = one(&group.iter().filter_map(|at| found.get(*at)).collect::<Vec<_>>());
        group.iter().for_each(|at| gone[*at] = true);
        if let Some(merged) = merged {
            gone[group[0]] = false;
            found[group[0]] = merged;
        }
    }
    let mut gone = gone.into_iter();
    found.retain(|_| !gone.next().unwrap_or(false));
    found
}

/// The worst of them, with the sums of what adds up. Its evidence is its own.
fn one(group: &[&Finding]) -> Option<Finding> {
    // Of equal ones the first.
    let worst = group.iter().rev().max_by(|one, other| size(one).total_cmp(&size(other)))?;
    let mut finding = (*worst).clone();
    let (others, place) = (group.len() - 1, "this is the worst");
    finding.title.push_str(&format!("; the same for {others} other destinations, of which {place}"));
    finding.evidence.insert(0, Evidence::Destinations(group.len() as u64));
    for advice in &mut finding.advice {
        let id = advice.id;
        // What does not add up is about one destination.
        advice.effect.retain(is_sum);
        for effect in &mut advice.effect {
            let figure = effect.figure;
            let same = group.iter().flat_map(|other| &other.advice).filter(|other| other.id == id);
            let all = || same.clone().flat_map(|advice| &advice.effect).filter(|other| other.figure == figure);
            effect.from = all().map(|effect| effect.from).sum();
            effect.to = all().map(|effect| effect.to).sum();
        }
    }
    Some(finding)
}

/// How bad one is.
fn size(finding: &Finding) -> f64 {
    let effects = finding.advice.iter().flat_map(|advice| &advice.effect).filter(|effect| is_sum(effect));
    effects.map(|effect| effect.from).fold(0.0, f64::max)
}

/// Whether the figures of destinations add up.
fn is_sum(effect: &Effect) -> bool {
    !matches!(effect.figure, "ports_total" | "max_rate_per_s" | "max_tw_buckets" | "connect_ms")
}
