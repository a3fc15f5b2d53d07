//! The lines at the top: the host, what is happening, and the two limits that a host runs into.

use crate::tui::findings;
use crate::tui::ports::style as ports_style;
use crate::tui::state::State;
use crate::tui::style::Theme;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use twtrace_core::snapshot::{DestRow, Snapshot};
use twtrace_view::focus::Focus;
use twtrace_view::{label, ports, text, words};

/// Narrowest screen that shows the kernel's version, in cells.
const WIDE: u16 = 100;

/// Lowest screen with a second line for the sentence, in cells.
const LOW: u16 = 16;

/// Lowest screen with a line for who has the ports, in cells.
const HIGH: u16 = 22;

/// Cells of a gauge at most.
const MOST_CELLS: usize = 40;

/// A line that shows where it was cut.
fn fitted(spans: Vec<Span<'static>>, width: u16) -> Line<'static> {
    let mut room = usize::from(width);
    let fit = |span: Span<'static>| {
        let text = text::fit(&span.content, room).into_owned();
        room = room.saturating_sub(text::width(&text));
        Span::styled(text, span.style)
    };
    Line::from(spans.into_iter().map(fit).collect::<Vec<_>>())
}

/// Every reason why the figures are incomplete: what is missing from a recording, and what the trace itself missed.
pub(super) fn warnings(snapshot: &Snapshot, state: &State) -> Vec<String> {
    let of_recording = state.playback.iter().flat_map(|playback| playback.warnings.iter().cloned());
    of_recording.chain(words::warnings(snapshot.summary())).collect()
}

/// Cells of the names before the gauges.
const NAMES: usize = 10;

/// The header's lines for a screen of this size.
pub(super) fn lines(snapshot: &Snapshot, state: &State, area: Rect) -> Vec<Line<'static>> {
    let width = area.width;
    let focus = Focus::of(snapshot);
    let mut lines = vec![fitted(host(snapshot, state, width), width)];
    let look = state.look;
    let style = focus.finding.map_or(look.accent(), |finding| findings::style(finding, look));
    // On a low screen the rows are more important.
    let most = if area.height >= LOW { 2 } else { 1 };
    let mut sentence = text::wrap(&focus.sentence(snapshot), width.into());
    if sentence.len() > most {
        let last = sentence.split_off(most - 1).join(" ");
        sentence.push(text::fit(&last, width.into()).into_owned());
    }
    lines.extend(sentence.into_iter().map(|line| Line::from(Span::styled(line, style))));
    let warnings: Vec<String> = warnings(snapshot, state).into_iter().chain(state.mistake.clone()).collect();
    if let Some(warning) = warnings.first() {
        let more =
            if warnings.len() > 1 { format!(" (and {} more: press ?)", warnings.len() - 1) } else { String::new() };
        let room = usize::from(width).saturating_sub(text::width(&more) + 2);
        let warning = format!("! {}{more}", text::fit(warning, room));
        lines.push(Line::from(Span::styled(warning, look.warning())));
    }
    if let Some(unseen) = words::unseen(snapshot).filter(|_| area.height >= LOW) {
        lines.push(fitted(vec![Span::raw(unseen)], width));
    }
    let cells = usize::from(width / 4).min(MOST_CELLS);
    lines.push(fitted(ports_gauge(&focus, snapshot, look, cells), width));
    if let Some(row) = focus.destination.filter(|_| area.height >= HIGH) {
        let holders = ports::holders(&snapshot.port_holders(row), snapshot);
        let line = vec![Span::raw(format!("{}held by {holders}", " ".repeat(NAMES)))];
        lines.extend((!holders.is_empty()).then(|| fitted(line, width)));
    }
    lines.push(fitted(bucket_gauge(&focus, snapshot, look, cells), width));
    lines
}

/// The host and the trace, and how much of it was seen.
fn host(snapshot: &Snapshot, state: &State, width: u16) -> Vec<Span<'static>> {
    let (summary, look) = (snapshot.summary(), state.look);
    let mut spans = vec![Span::styled("twtrace", look.accent())];
    if let Some(playback) = &state.playback {
        spans.push(Span::styled(" RECORDING ", look.chosen()));
        spans.push(Span::styled(format!(" {}", text::clean(&playback.name)), look.accent()));
    } else if state.frozen {
        spans.push(Span::styled(" FROZEN ", look.chosen()));
    }
    if let Some(agent) = &state.agent {
        spans.push(Span::styled(format!(" agent {}", text::clean(agent)), look.accent()));
    }
    if let Some(recording) = &state.recording {
        spans.push(Span::styled(
            format!(" {} {} ", if recording.is_sealing { "WRITING" } else { "REC" }, text::clean(&recording.name)),
            look.warning(),
        ));
    }
    let lost = !words::lost(&summary.counters).is_empty();
    let name = text::clean(&summary.host.hostname);
    let kernel = if width >= WIDE { format!("  kernel {}", text::clean(&summary.host.kernel)) } else { String::new() };
    let tier = words::tier(summary.tracing.tier);
    let time = text::seconds(summary.window.seconds());
    spans.extend([
        Span::raw(format!("  {name}{kernel}  tier {tier}  traced {time}  ")),
        Span::styled(words::losses(&summary.counters), if lost { look.warning() } else { look.dim() }),
        Span::raw(format!("  {}{}", words::coverage(summary), words::and_cost("  ", summary))),
    ]);
    spans
}

/// The ports of the destination that matters most.
fn ports_gauge(focus: &Focus<'_>, snapshot: &Snapshot, look: Theme, cells: usize) -> Vec<Span<'static>> {
    let name = Span::styled(text::pad("ports", NAMES, false), look.accent());
    let found = focus.destination.and_then(|row| Some((row, row.budget?)));
    let Some((row, budget)) = found else { return vec![name, Span::raw(words::ports(snapshot))] };
    let bar = ports::cells(&budget, cells).into_iter();
    let bar =
        bar.map(|(share, cells)| Span::styled(share.letter().to_string().repeat(cells), ports_style(share, look)));
    let full =
        if budget.available == 0 || budget.seconds_to_exhaustion.is_some() { look.warning() } else { Style::new() };
    let whose = match row.key {
        DestRow::Dest(key) if focus.bucket.is_one_of_several => {
            format!(" in {}", label::namespace(snapshot.summary(), key.netns))
        }
        _ => String::new(),
    };
    let total = text::count(budget.total.into());
    let text = format!(" of {total}: {}{whose}", words::tightness(row));
    [name, Span::raw("[")].into_iter().chain(bar).chain([Span::raw("]"), Span::styled(text, full)]).collect()
}

/// TIME_WAIT sockets, and how many the kernel keeps at most.
fn bucket_gauge(focus: &Focus<'_>, snapshot: &Snapshot, look: Theme, cells: usize) -> Vec<Span<'static>> {
    let (summary, bucket) = (snapshot.summary(), &focus.bucket);
    let full = (bucket.share().min(1.0) * cells as f64).ceil() as usize;
    let style = if bucket.is_nearly_full() { look.warning() } else { look.accent() };
    let counts = &summary.totals.counts;
    let all = if bucket.is_one_of_several {
        format!(" in {}, {} in all", bucket.namespace, text::count(summary.time_wait()))
    } else {
        String::new()
    };
    let (created, per_s) = (text::count(counts.time_wait_created), text::rate(counts.created_per_s));
    let ends = words::ends(counts);
    let ends = if ends.is_empty() { ends } else { format!("  {ends}") };
    vec![
        Span::styled(text::pad("TIME_WAIT", NAMES, false), look.accent()),
        Span::raw("["),
        Span::styled("T".repeat(full), style),
        Span::styled(".".repeat(cells - full), look.dim()),
        Span::raw(format!(
            "] {} of at most {}{all}  created {created} ({per_s}/s){ends}",
            text::count(bucket.sockets),
            text::count(bucket.limit),
        )),
    ]
}

/// Draws the header.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines), area);
}
