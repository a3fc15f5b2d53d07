//! The report in words: what was recorded, how its numbers are known, and what is missing.

use super::lines::{self, lines_of};
use super::{Part, Report};
use crate::grid::{Grid, Head};
use crate::html::cards::Card;
use crate::order;
use crate::timeline::Timeline;
use crate::{recording, text, words};
use twtrace_core::event::Tier;
use twtrace_core::ports::{Budget, TIME_WAIT_SECONDS, Usable, Use};
use twtrace_core::snapshot::GroupBy;

impl Part<'_> {
    /// Every reason why the figures are incomplete, one line each, the recording's own first.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.source.losses();
        warnings.extend(recording::state(self.info).iter().map(|line| format!("{}: {line}", self.recording)));
        warnings.extend(words::warnings(self.model.summary()));
        warnings
    }

    /// Start, end and duration.
    pub(super) fn span(&self) -> String {
        let window = &self.model.summary().window;
        let passed = window.now_ns.saturating_sub(window.start_ns);
        let end = window.start_unix_ns.saturating_add(passed.into());
        format!(
            "{} to {} ({})",
            text::rfc3339(window.start_unix_ns),
            text::rfc3339(end),
            text::seconds(window.seconds())
        )
    }

    /// The recording itself, by title.
    pub(super) fn about(&self) -> Vec<(&'static str, String)> {
        let (info, host) = (self.info, &self.model.summary().host);
        let state = if info.finished { "finished" } else { "not finished" };
        let connections = text::count(info.connections);
        let recording = if info.is_live() {
            format!("{} (running, {connections} connections)", self.recording)
        } else {
            format!("{} ({state}, {connections} connections, {})", self.recording, text::bytes(info.bytes))
        };
        vec![("recording", recording), ("time", self.span()), ("kernel", text::clean(&host.kernel).into_owned())]
    }

    /// The answer in one sentence.
    pub(super) fn headline(&self) -> String {
        let created = self.created();
        if created == 0 {
            return "No TIME_WAIT socket that passes the filters was created.".to_owned();
        }
        let first = |by| lines_of(self, by).into_iter().next();
        let of = |line: Option<lines::Line<'_>>| line.map(|line| (line.name(), text::percent(line.share())));
        let all = text::count(created);
        // By program: two scripts of one interpreter are two.
        let creator = of(first(GroupBy::Program));
        let (creator, share) = creator.unwrap_or_default();
        let where_to = first(GroupBy::Destination).map_or_else(String::new, |line| {
            format!(" {} {} {}", text::percent(line.share()), line.preposition(), line.name())
        });
        format!("{creator} created {share} of the {all} TIME_WAIT sockets;{where_to}.")
    }

    /// The key figures.
    pub(super) fn cards(&self) -> Vec<Card> {
        let summary = self.model.summary();
        let totals = &summary.totals.counts;
        let timeline = Timeline::of(self.model);
        let busiest = timeline
            .busiest()
            .map_or_else(String::new, |point| format!("near {} UTC", text::time_of_day(point.unix_ns)));
        let buckets = summary.kernel.max_tw_buckets;
        let (alive, counted_by) = match self.kernel_peak() {
            Some(most) => (most, "by the kernel's count"),
            None => (totals.time_wait_live_peak, "of those followed"),
        };
        let (low, high) = summary.kernel.port_range;
        let ports = Usable::of(&summary.kernel).map(|usable| Budget::of(&usable, &Use::default(), TIME_WAIT_SECONDS));
        let errors = lines::errors(totals);
        let card = |title, value, unit, more| Card { title, value, unit, more };
        vec![
            card(
                "TIME_WAIT created",
                text::count(totals.time_wait_created),
                None,
                format!(
                    "{}/s on average over {}",
                    text::rate(lines::mean_per_s(totals, self)),
                    text::seconds(summary.window.seconds())
                ),
            ),
            card("Busiest second", text::count(totals.created_peak_per_s), Some("/s"), busiest),
            card(
                "Most alive at a time",
                text::count(alive),
                None,
                match words::fullest(summary).is_one_of_several {
                    true => format!("{counted_by}, in all network namespaces"),
                    false => format!("{counted_by}; limit {}", text::count(buckets)),
                },
            ),
            card(
                "Ports for each destination",
                ports.map_or_else(|| "unknown".to_owned(), |ports| text::count(ports.total.into())),
                None,
                ports.map_or_else(String::new, |ports| {
                    format!("{low}-{high}; last at up to {}/s", text::rate(ports.max_rate_per_s))
                }),
            ),
            card(
                "Calls that failed",
                text::count(order::errors(totals)),
                None,
                if errors.is_empty() { "none".to_owned() } else { errors },
            ),
            card(
                "Tier",
                words::tier(summary.tracing.tier).to_owned(),
                None,
                format!("{}; {}", words::losses(&summary.counters), words::coverage(summary)),
            ),
        ]
    }

    /// Totals in words, by title.
    pub(super) fn totals(&self) -> Vec<(&'static str, String)> {
        let summary = self.model.summary();
        let totals = &summary.totals.counts;
        let timeline = Timeline::of(self.model);
        let busiest = timeline
            .busiest()
            .map_or_else(String::new, |point| format!(", near {} UTC", text::time_of_day(point.unix_ns)));
        let kernel = self.kernel_peak().map_or_else(String::new, |most| {
            format!(
                "; by the kernel's own count {} of at most {}",
                text::count(most),
                text::count(summary.kernel.max_tw_buckets)
            )
        });
        let mut all = vec![
            (
                "TIME_WAIT sockets created",
                format!(
                    "{} ({}/s on average, {}/s in the busiest second{busiest})",
                    text::count(totals.time_wait_created),
                    text::rate(lines::mean_per_s(totals, self)),
                    text::count(totals.created_peak_per_s),
                ),
            ),
            ("most alive at a time", format!("{}{kernel}", text::count(totals.time_wait_live_peak))),
            (
                "connections",
                format!(
                    "{} opened, {} accepted, {} reset; {} closed first, {} closed last",
                    text::count(totals.opened),
                    text::count(totals.accepted),
                    text::count(totals.reset),
                    text::count(totals.closed_first),
                    text::count(totals.closed_last),
                ),
            ),
        ];
        let errors = lines::errors(totals);
        if !errors.is_empty() {
            all.push(("errors", errors));
        }
        let ends = words::ends(totals);
        if !ends.is_empty() {
            all.push(("ends", ends));
        }
        let ports = words::port_range(&summary.kernel);
        let tightest = words::tightest(self.model.destinations().iter())
            .map_or_else(String::new, |row| format!("; tightest at the end: {}", words::tightness(row)));
        all.push(("local ports", format!("{ports} for each destination{tightest}")));
        all
    }

    /// How the numbers are known, by title.
    pub(super) fn known(&self) -> Vec<(&'static str, String)> {
        let summary = self.model.summary();
        let tracing = &summary.tracing;
        let counters = &summary.counters;
        let tier = match tracing.tier {
            Tier::Exact => "exact: the kernel reported every TIME_WAIT socket created and ended",
            Tier::Cookie => {
                "cookie: whether a connection left a TIME_WAIT socket is classified by how it ended and corrected by \
                 the kernel's list; ends, and with them peaks of live sockets, are inferred"
            }
            Tier::Tuple => {
                "tuple: sockets are identified by address and port; TIME_WAIT sockets and their ends are inferred"
            }
        };
        let hooks = |attached| {
            let hooks = tracing.hooks.iter().filter(move |hook| hook.attached == attached);
            hooks.map(|hook| format!("{} ({})", text::clean(&hook.name), text::clean(&hook.kind))).collect::<Vec<_>>()
        };
        let mut all = vec![("tier", tier.to_owned())];
        for (title, hooks) in [("hooks", hooks(true)), ("hooks missing", hooks(false))] {
            if !hooks.is_empty() {
                all.push((title, hooks.join(", ")));
            }
        }
        let corrections = &summary.totals.corrections;
        let corrected: Vec<String> = corrections
            .iter()
            .map(|(why, number)| format!("{} {}", why.replace('_', " "), text::count(*number)))
            .collect();
        all.extend([
            (
                "events",
                format!("{} records since tracing began, {}", text::count(counters.records), words::losses(counters)),
            ),
            ("kernel's list", words::coverage(summary)),
            ("corrections", if corrected.is_empty() { "none".to_owned() } else { corrected.join(", ") }),
            ("rates", "counted, not sampled; a peak is the most within one second of the clock".to_owned()),
            (
                "lifetimes",
                "from the first state change to the last, of established connections; within 3.2%".to_owned(),
            ),
        ]);
        all
    }
}

impl Report<'_> {
    /// The first line: its subject, and how much of a recording it covers if not all of it.
    pub(super) fn title(&self) -> String {
        let about = match self.parts.as_slice() {
            [one] => format!("TIME_WAIT churn on {}", one.host),
            all => format!("TIME_WAIT churn in {}", text::counted(all.len(), "recording", "recordings")),
        };
        let several = self.is_of_several();
        let covers = self.parts.iter().filter_map(|part| {
            let covers = recording::covers(part.info)?;
            Some(if several { format!("{} {covers}", part.recording) } else { covers })
        });
        std::iter::once(about).chain(covers).collect::<Vec<_>>().join("; ")
    }

    /// One row for each recording.
    pub(super) fn recordings(&self) -> Grid {
        type Cell = fn(&&Part<'_>) -> String;
        let columns: [(Head, Cell); 9] = [
            (Head::left("HOST"), |part| part.host.clone()),
            (Head::left("RECORDING"), |part| part.recording.clone()),
            (Head::left("FROM (UTC)"), |part| {
                let start = part.model.summary().window.start_unix_ns;
                format!("{} {}", text::day(start), text::time_of_day(start))
            }),
            (Head::right("LENGTH"), |part| text::seconds(part.model.summary().window.seconds())),
            (Head::left("TIER"), |part| words::tier(part.model.summary().tracing.tier).to_owned()),
            (Head::right("CREATED"), |part| text::count(part.created())),
            (Head::right("MEAN/S"), |part| text::rate(lines::mean_per_s(&part.model.summary().totals.counts, part))),
            (Head::right("PEAK/S"), |part| text::count(part.model.summary().totals.counts.created_peak_per_s)),
            (Head::right("ALIVE (KERNEL)"), |part| part.kernel_peak().map_or_else(|| "-".to_owned(), text::count)),
        ];
        Grid::of(columns, &self.parts.iter().collect::<Vec<_>>())
    }
}
