//! The verdict in one sentence, and the reasons why it may be wrong.

use super::columns::{share, signed};
use super::keys::Who;
use super::{Diff, MOST, Side};
use crate::words;
use crate::{recording, text};
use twtrace_core::compare::Direction;
use twtrace_core::event::Role;

/// A recording shorter than this shows little, in seconds.
const SHORT: f64 = 10.0;

impl Diff<'_> {
    /// What changed, in one sentence. It says when it is not certain.
    pub(super) fn sentence(&self) -> String {
        let verdict = self.verdict();
        let (before, after) = (self.total.before.created_per_s(), self.total.after.created_per_s());
        let what = if self.is_of_one_host() {
            "TIME_WAIT sockets created".to_owned()
        } else {
            format!("Between two hosts, from {} to {}, TIME_WAIT sockets created", self.before.host, self.after.host)
        };
        let from_to = format!("from {}/s to {}/s ({})", text::rate(before), text::rate(after), share(&self.total));
        let mut sentence = match verdict.direction {
            _ if before == 0.0 && after == 0.0 => {
                "No TIME_WAIT sockets were created, neither before nor after".to_owned()
            }
            Direction::Fell => format!("{what} fell {from_to}"),
            Direction::Rose => format!("{what} rose {from_to}"),
            Direction::Same => {
                format!("{what} stayed about the same: {}/s before, {}/s after", text::rate(before), text::rate(after))
            }
        };
        if let Some(main) = verdict.main {
            let who = format!("{} ({}/s)", named(&main.key), signed(main.created_per_s()));
            sentence += &match verdict.direction {
                Direction::Same => format!(", but not {who}"),
                _ if verdict.main_share >= MOST => format!(", mostly by {who}"),
                _ => format!(", by many, most of all {who}"),
            };
            sentence += &match verdict.rest {
                Direction::Same => "; everything else is unchanged".to_owned(),
                Direction::Rose => format!("; everything else rose by {}/s", text::rate(verdict.rest_per_s)),
                Direction::Fell => format!("; everything else fell by {}/s", text::rate(-verdict.rest_per_s)),
            };
        }
        let certain = if self.reservations().is_empty() { "." } else { " - with reservations, see below." };
        sentence + certain
    }

    /// Recordings without a boot id count as the same host if the host names are equal.
    fn is_of_one_host(&self) -> bool {
        let [before, after] = [&self.before, &self.after].map(|side| &side.source.model.summary().host);
        before.hostname == after.hostname
    }

    /// Why the verdict may be wrong, one sentence each.
    pub(super) fn reservations(&self) -> Vec<String> {
        let mut reservations = Vec::new();
        let [before, after] = [&self.before, &self.after].map(|side| side.source.model.summary());
        let [first, second] = [&self.before, &self.after].map(|side| side.source.info);
        if !first.id.is_empty() && first.id == second.id {
            reservations.push("both are the same recording".to_owned());
        } else if second.end_unix_ns <= first.start_unix_ns && self.is_of_one_host() {
            let (after, before) = (&self.after.recording, &self.before.recording);
            reservations.push(format!("{after} is older than {before}: they may be the wrong way round"));
        }
        if !self.is_of_one_host() {
            reservations.push("the hosts are not the same: differences may come from the hosts".to_owned());
        }
        if before.tracing.tier != after.tracing.tier {
            let [before, after] = [before, after].map(|summary| words::tier(summary.tracing.tier));
            reservations.push(format!(
                "TIME_WAIT sockets are known by the {before} tier before and by the {after} tier after: small changes \
                 may be of the tracing"
            ));
        }
        for side in [&self.before, &self.after] {
            reservations.extend(side.reservations());
        }
        reservations
    }
}

impl Side<'_> {
    fn reservations(&self) -> Vec<String> {
        let (name, summary, info) = (&self.recording, self.source.model.summary(), self.source.info);
        let mut reservations = Vec::new();
        if self.seconds() < SHORT {
            let length = text::seconds(self.seconds());
            reservations.push(format!("{name} is only {length} long: less than {SHORT} seconds say little"));
        }
        if !words::lost(&summary.counters).is_empty() {
            reservations.push(format!("{name}: figures are too low: {}", words::losses(&summary.counters)));
        }
        let losses = &self.source.info.losses;
        if !losses.is_empty() {
            let parts = text::counted(losses.len(), "part", "parts");
            let covers = recording::covers(info).unwrap_or_default();
            reservations.push(format!("{name} {covers}; {parts} of the recording cannot be read"));
        }
        if !info.finished {
            reservations.push(format!("{name} was not closed properly: its end may be missing"));
        }
        reservations
    }
}

/// A process, a destination, or both.
fn named(who: &Who) -> String {
    let place = who.destination.as_ref().map(|destination| {
        let preposition = if destination.role == Some(Role::Passive) { "on" } else { "to" };
        format!("{preposition} {}", destination.name)
    });
    let process = who.process.as_ref().map_or("connections", |process| &process.name);
    place.map_or_else(|| process.to_owned(), |place| format!("{process} {place}"))
}
