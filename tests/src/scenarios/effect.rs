//! The effect of a remedy, measured independently of the tracer's forecast.

use serde_json::Value;

use super::bed::TestBed;
use super::play::Played;
use super::{Expected, Run};

/// How far a prediction may be off, relative to the measurement.
const TOLERANCE: f64 = 0.2;

/// Compares the effect that an advice predicts with the measured one, for each figure that can be measured. The effect
/// is the change of the figure; if it was 0 before, the figure after it.
pub fn compare(advice: &Value, expected: &Expected, before: &Played, after: &Played, run: &Run) -> Vec<Compared> {
    let both = |name: &str| Some((printed(before, name)?, printed(after, name)?));
    let measured = |figure: &str| match figure {
        "time_wait_created_per_s" => Some((created_per_s(expected, before), created_per_s(expected, after))),
        "fin_wait1" | "close_wait" | "accept_queue" | "connect_ms" => both(figure),
        "connect_failures_per_s" | "bind_failures_per_s" => both("failures_per_s"),
        "ports_bound" => both("bound"),
        // Before: each successful request occupied its port for a minute.
        "max_rate_per_s" => Some((printed(before, "requests")? / 60.0, sustained(run))),
        // A predicted number of connections is an average; a real pool has more.
        _ => None,
    };
    let effects = advice["effect"].as_array().into_iter().flatten();
    let compared = effects.filter_map(|effect| {
        let figure = effect["figure"].as_str()?.to_owned();
        let predicted = (effect["from"].as_f64()?, effect["to"].as_f64()?);
        let measured = measured(&figure)?;
        let at_most = both(&format!("{figure}_at_most")).unwrap_or(measured);
        Some(Compared { figure, predicted, measured, at_most })
    });
    compared.collect()
}

/// A figure, before and after, as predicted and as measured.
#[derive(Debug)]
pub struct Compared {
    /// Its name.
    pub figure: String,
    /// By the advice.
    pub predicted: (f64, f64),
    /// By what happened.
    pub measured: (f64, f64),
    /// The same where the load can only say between which two figures it is.
    pub at_most: (f64, f64),
}

impl Compared {
    /// Whether the predicted change matches the measured one.
    pub fn agrees(&self) -> bool {
        let change = |(from, to): (f64, f64)| to - from;
        let (one, other) = (change(self.measured), change(self.at_most));
        let predicted = change(self.predicted);
        // The nearest of what it may have been.
        let measured = predicted.clamp(one.min(other), one.max(other));
        (predicted - measured).abs() <= TOLERANCE * measured.abs()
    }
}

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { figure, predicted, measured, at_most } = self;
        write!(
            f,
            "{figure}: predicted {:.1} to {:.1}, measured {:.1} to {:.1}",
            predicted.0, predicted.1, measured.0, measured.1
        )?;
        if at_most == measured { Ok(()) } else { write!(f, ", at most {:.1} to {:.1}", at_most.0, at_most.1) }
    }
}

/// TIME_WAIT sockets created on either side of the connections, per second of the load.
fn created_per_s(expected: &Expected, played: &Played) -> f64 {
    // Other namespaces may have the same ports.
    let here = |row: &&Value| row["netns"] == played.end["host"]["netns"];
    let rows = played.end["destinations"].as_array().into_iter().flatten().filter(here);
    let there = rows.filter(|row| row["port"].as_u64().is_some_and(|port| expected.ports.contains(&(port as u16))));
    // A load that takes long to start says for how long it worked.
    let seconds = printed(played, "seconds").unwrap_or(played.seconds);
    there.filter_map(|row| row["time_wait_created"].as_f64()).sum::<f64>() / seconds
}

/// A number that the load printed, if it did.
fn printed(played: &Played, name: &str) -> Option<f64> {
    let json: Value = serde_json::from_str(&played.printed).ok()?;
    json[name].as_f64()
}

/// The highest rate of connections per second that succeeds indefinitely, found by trying.
fn sustained(run: &Run) -> f64 {
    let bed = TestBed::of(run);
    let load = bed.python(include_str!("fastest.py"));
    let printed: Value = serde_json::from_str(&load.end()).expect("it prints JSON");
    printed["per_s"].as_f64().expect("a number")
}
