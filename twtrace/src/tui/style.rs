//! Colours, and their replacement where there are none. Colour is never the only signal.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// Colours to draw attention with. Blue and orange, which colour-blind users can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// None: bold, dim, underlined and reversed text alone.
    Plain,
    /// For a dark background.
    Dark,
    /// For a light background.
    Light,
    /// White, yellow and cyan on black, and nothing dim.
    Contrast,
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours.
    pub palette: Palette,
    /// The terminal shows ASCII alone.
    pub ascii: bool,
}

/// What a colour is for.
#[derive(Clone, Copy)]
enum For {
    Name,
    Warning,
    /// The third line of a chart.
    Third,
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
            '▸' => '+',
            '▾' => '-',
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

const BLACK: Color = Color::Indexed(16);
const WHITE: Color = Color::Indexed(231);

impl Theme {
    /// Whether colours tell lines of a chart apart.
    pub fn is_coloured(self) -> bool {
        self.palette != Palette::Plain
    }

    /// Everything else is drawn upon this.
    pub fn base(self) -> Style {
        match self.palette {
            Palette::Contrast => Style::new().fg(WHITE).bg(BLACK),
            Palette::Plain | Palette::Dark | Palette::Light => Style::new(),
        }
    }

    fn tinted(self, style: Style, colour: For) -> Style {
        // From the 6x6x6 cube of colours, which no theme of a terminal changes.
        let colour = match (self.palette, colour) {
            (Palette::Plain, _) => return style,
            (Palette::Dark, For::Name) => 75,
            (Palette::Dark, For::Warning) => 208,
            (Palette::Dark, For::Third) => 179,
            (Palette::Light, For::Name) => 25,
            (Palette::Light, For::Warning) => 130,
            (Palette::Light, For::Third) => 58,
            (Palette::Contrast, For::Name) => 51,
            (Palette::Contrast, For::Warning) => 226,
            (Palette::Contrast, For::Third) => 231,
        };
        style.fg(Color::Indexed(colour))
    }

    /// Names of things.
    pub fn accent(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD), For::Name)
    }

    /// Heads of columns.
    pub fn head(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED), For::Name)
    }

    /// What must not be overlooked.
    pub fn warning(self) -> Style {
        self.tinted(Style::new().add_modifier(Modifier::BOLD), For::Warning)
    }

    /// The selected row.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A line in a chart and its name in the legend, by rank.
    pub fn line(self, rank: usize) -> Style {
        match rank {
            0 => self.tinted(Style::new().add_modifier(Modifier::BOLD), For::Warning),
            1 => self.tinted(Style::new(), For::Name),
            _ => self.tinted(Style::new(), For::Third),
        }
    }

    /// Less important text.
    pub fn dim(self) -> Style {
        if self.palette == Palette::Contrast { Style::new() } else { Style::new().add_modifier(Modifier::DIM) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sRGB value of a colour of the cube (xterm's levels).
    fn rgb(colour: Color) -> [f64; 3] {
        let Color::Indexed(index @ 16..232) = colour else { panic!("{colour:?} is not of the cube") };
        let level = |step: u8| if step == 0 { 0.0 } else { 55.0 + 40.0 * f64::from(step) };
        let index = index - 16;
        [index / 36, index / 6 % 6, index % 6].map(level)
    }

    /// Contrast ratio (WCAG 2.2).
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let luminance = |rgb: [f64; 3]| {
            let [r, g, b] = rgb.map(|value| {
                let value = value / 255.0;
                if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn colours_can_be_read_on_their_background() {
        const DARK: [f64; 3] = [30.0; 3];
        const LIGHT: [f64; 3] = [255.0; 3];
        // AA for text; AAA for high contrast.
        for (palette, background, least) in
            [(Palette::Dark, DARK, 4.5), (Palette::Light, LIGHT, 4.5), (Palette::Contrast, [0.0; 3], 7.0)]
        {
            let theme = Theme { palette, ascii: false };
            let styles = [theme.accent(), theme.head(), theme.warning(), theme.line(0), theme.line(1), theme.line(2)];
            for style in styles {
                let found = contrast(rgb(style.fg.unwrap_or(WHITE)), background);
                assert!(found >= least, "{palette:?} {style:?}: {found:.1}");
            }
        }
    }
}
