//! Key figures, each in a card.

use maud::{Markup, html};

/// A key figure.
pub(crate) struct Card {
    /// What it is.
    pub(crate) title: &'static str,
    /// The figure.
    pub(crate) value: String,
    /// Its unit.
    pub(crate) unit: Option<&'static str>,
    /// What else is to know of it.
    pub(crate) more: String,
}

/// The cards side by side.
pub(crate) fn cards(all: &[Card]) -> Markup {
    html! {
        div class="cards" {
            @for card in all {
                div class="card" {
                    div class="title" { (card.title) }
                    div class="value" { (card.value) @if let Some(unit) = card.unit { span class="unit" { (unit) } } }
                    div class="more" { (card.more) }
                }
            }
        }
    }
}
