//! Colours, and what stands for them where there are none. Nothing is told by colour alone.

use ratatui::style::{Color, Modifier, Style};

/// How to draw attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Use colours: blue and orange, which the colour-blind tell apart.
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

    /// What was chosen.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What matters less.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}
