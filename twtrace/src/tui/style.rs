//! Colours, and their replacement where there are none. Colour is never the only signal.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// How to draw attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Use colours: blue and orange, which colour-blind users can distinguish.
    pub colour: bool,
    /// The terminal shows ASCII alone.
    pub ascii: bool,
}

/// The ASCII character that stands for a symbol of the screen. Names are shown with `?` for what has none.
fn in_ascii(symbol: &str) -> char {
    let mut letters = symbol.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii() => letter,
        (Some(letter), None) => match letter {
            '▲' => '^',
            '▼' => 'v',
            '…' => '~',
            '─' | '┌' | '┐' | '└' | '┘' => '-',
            '│' => '|',
            // Half a cell or more.
            '▄'..='█' | '▌' | '▋' | '▊' | '▉' => '#',
            '▁'..='▃' | '▏' | '▎' | '▍' => '.',
            // No dot, dots in the upper half, others.
            '\u{2800}' => ' ',
            '\u{2801}'..='\u{28ff}' if (u32::from(letter) & 0b1110_0100) == 0 => '\'',
            '\u{2801}'..='\u{28ff}' => '*',
            _ => '?',
        },
        (None, _) => ' ',
        _ => '?',
    }
}

/// Replaces everything on the screen that is not ASCII.
pub(super) fn to_ascii(buffer: &mut Buffer) {
    for cell in buffer.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        let letter = in_ascii(cell.symbol());
        cell.set_char(letter);
    }
}

impl Theme {
    fn tinted(self, style: Style, colour: Color) -> Style {
        if self.colour { style.fg(colour) } else { style }
    }

    /// Names of things.
    pub fn accent(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD), Color::LightBlue)
    }

    /// Heads of columns.
    pub fn head(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED), Color::LightBlue)
    }

    /// What must not be overlooked.
    pub fn warning(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD), Color::Indexed(208))
    }

    /// The selected row.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A line in a chart and its name in the legend, by rank.
    pub fn line(self, rank: usize) -> Style {
        match rank {
            0 => self.tinted(Style::new().add_modifier(Modifier::BOLD), Color::Indexed(208)),
            1 => self.tinted(Style::new(), Color::LightBlue),
            _ => self.tinted(Style::new(), Color::Indexed(179)),
        }
    }

    /// Less important text.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}
