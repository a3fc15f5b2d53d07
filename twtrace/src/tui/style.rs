//! Colours, and their replacement where there are none. Colour is never the only signal.

use ratatui::style::{Color, Modifier, Style};

/// How to draw attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Use colours: blue and orange, which colour-blind users can distinguish.
    pub colour: bool,
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

    /// Less important text.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}
