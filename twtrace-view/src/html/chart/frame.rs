//! What plots have in common: their place on the page, scales, grids and axes.
//!
//! Plots are SVG elements inside the page, written with the page's own templates and not by a plotting crate: so the
//! page's colours apply to them, in dark mode, on paper and for readers who need other colours, and the same code
//! escapes every text in them.

use crate::text;
use maud::{Markup, html};

/// Width of every plot in its own units. The page scales it.
pub(super) const WIDTH: f64 = 720.0;

/// Room for the numbers to the left of the plot. They are larger on small screens.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Steps between times on an axis, seconds.
const STEPS: [u32; 21] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    2_592_000,
];

/// A number in the plot's units, in as few characters as needed.
pub(crate) fn unit(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The rectangle for the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Height including the axes.
    pub(super) height: f64,
    /// Smallest and largest value from left to right.
    pub(super) x: (f64, f64),
    /// Largest value above the bottom, which is 0.
    pub(super) y: f64,
}

impl Frame {
    /// Horizontal place of a value.
    pub(super) fn x(&self, value: f64) -> f64 {
        let span = (self.x.1 - self.x.0).max(f64::MIN_POSITIVE);
        LEFT + (value - self.x.0) / span * (WIDTH - LEFT - RIGHT)
    }

    /// Vertical place of a value.
    pub(super) fn y(&self, value: f64) -> f64 {
        let share = value / self.y.max(f64::MIN_POSITIVE);
        self.bottom() - share * (self.bottom() - TOP)
    }

    /// Vertical range of the data.
    pub(super) fn down(&self) -> (f64, f64) {
        (TOP, self.bottom())
    }

    pub(super) fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }

    pub(super) fn right(&self) -> f64 {
        WIDTH - RIGHT
    }

    /// The plot as an image with a name and a description for screen readers. Its name is no `title`: that would cover the
    /// values.
    pub(super) fn svg(&self, id: &str, class: &str, name: &str, description: &str, content: &Markup) -> Markup {
        let description_id = format!("{id}-d");
        html! {
            svg viewBox=(format!("0 0 {} {}", unit(WIDTH), unit(self.height))) class={ "plot " (class) } role="img"
                aria-label=(name) aria-describedby=(description_id) {
                desc id=(description_id) { (description) }
                (content)
            }
        }
    }

    /// Lines from left to right with their numbers.
    pub(super) fn rules(&self) -> Markup {
        html! {
            g class="axis" {
                @for tick in ticks(self.y) {
                    @let y = self.y(tick);
                    (line("rule", (LEFT, y), (self.right(), y)))
                    text class="end" x=(unit(LEFT - 8.0)) y=(unit(y)) dy="0.35em" { (number(tick)) }
                }
            }
        }
    }

    /// The line below the plot, with values from left to right and their names. When there are many, small screens have
    /// room for half of the names.
    pub(super) fn base(&self, marks: &[(f64, String)]) -> Markup {
        let bottom = self.bottom();
        let spare = |index: usize| if marks.len() > 4 && index % 2 == 1 { " spare" } else { "" };
        html! {
            g class="axis" {
                @for (index, (value, name)) in marks.iter().enumerate() {
                    @let x = self.x(*value);
                    (line("tick", (x, bottom), (x, bottom + 5.0)))
                    // Centred, the last one would be cut off.
                    @let (anchor, x) = if x > self.right() - 24.0 { ("end", WIDTH) } else { ("middle", x) };
                    text class={ (anchor) (spare(index)) } x=(unit(x)) y=(unit(bottom + 28.0)) { (name) }
                }
                (line("base", (self.x(self.x.0), bottom), (self.right(), bottom)))
            }
        }
    }

    /// Times below a plot that covers seconds from a moment on.
    pub(super) fn times(&self, start_unix_ns: i128) -> Markup {
        let seconds = self.x.1 - self.x.0;
        let step = STEPS.into_iter().map(f64::from).find(|step| seconds / step <= 7.0);
        let step = step.unwrap_or(seconds / 7.0);
        let start = start_unix_ns.rem_euclid(86_400_000_000_000) as f64 / 1e9;
        let first = (start / step).ceil() * step - start;
        let marks = (0..8).map(|index| first + f64::from(index) * step).take_while(|at| *at <= seconds);
        let mark = |at: f64| {
            let unix_ns = start_unix_ns.saturating_add((at * 1e9) as i128);
            let time = text::time_of_day(unix_ns);
            let name = match step {
                86_400.0.. => text::day(unix_ns).split_off(5),
                60.0.. => time.get(..5).unwrap_or_default().to_owned(),
                _ => time,
            };
            (self.x.0 + at, name)
        };
        self.base(&marks.map(mark).collect::<Vec<_>>())
    }
}

/// A line from one place to another.
pub(super) fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Markup {
    html! {
        line class=(class) x1=(unit(from.0)) x2=(unit(to.0)) y1=(unit(from.1)) y2=(unit(to.1)) {}
    }
}

/// A rectangle from left to right and from top to bottom, with a tooltip.
pub(super) fn block(class: &str, across: (f64, f64), down: (f64, f64), says: &str) -> Markup {
    let (width, height) = (across.1 - across.0, down.1 - down.0);
    html! {
        rect class=(class) x=(unit(across.0)) width=(unit(width)) y=(unit(down.0)) height=(unit(height)) {
            title { (says) }
        }
    }
}

/// Round numbers from 0 to a maximum, about five.
pub(super) fn ticks(most: f64) -> Vec<f64> {
    let step = step(most);
    (0..8).map(|index| f64::from(index) * step).take_while(|tick| *tick <= most * 1.000_001).collect()
}

/// The smallest tick that is at least the maximum, so that the plot ends with a rule.
pub(super) fn round_up(most: f64) -> f64 {
    let step = step(most);
    (most / step).ceil().max(1.0) * step
}

fn step(most: f64) -> f64 {
    let rough = most / 4.0;
    if !(rough.is_finite() && rough > 0.0) {
        return 1.0;
    }
    let magnitude = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * magnitude).find(|step| *step >= rough).unwrap_or(rough)
}

fn number(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value < 10.0 && value.fract() != 0.0 {
        let digits = if value < 0.1 { 2 } else { 1 };
        format!("{value:.digits$}")
    } else if value < 10_000.0 {
        text::count(value.round() as u64)
    } else {
        // Long ones have no room.
        let (size, letter) =
            [(1e12, "T"), (1e9, "G"), (1e6, "M")].into_iter().find(|(size, _)| value >= *size).unwrap_or((1e3, "k"));
        format!("{}{letter}", unit(value / size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(100.0), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(87.0), [0.0, 50.0]);
        assert_eq!((round_up(87.0), round_up(100.0), round_up(0.0), round_up(1201.0)), (100.0, 100.0, 1.0, 1500.0));
        for most in [1e-9, 0.3, 1.0, 7.0, 4095.0, 1e12] {
            assert!(ticks(round_up(most)).len() <= 6 && round_up(most) >= most, "{most}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.05, 0.5, 1.0, 1500.0, 20_000.0, 1.5e6].map(number),
            ["0", "0.05", "0.5", "1", "1,500", "20k", "1.5M"]
        );
        assert_eq!([1.0, 1.25, 0.04].map(unit), ["1", "1.2", "0"]);
    }
}
