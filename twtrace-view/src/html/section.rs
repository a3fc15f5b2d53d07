//! The sections of a long page, and the links to them.

use maud::{Markup, html};

/// A section.
pub(crate) struct Section {
    /// What a link leads to. It is our own: no text from a recording may become one.
    pub(crate) id: String,
    /// Its heading, and the text of the link.
    pub(crate) title: String,
    /// It is a wide table: on paper it has a page across.
    pub(crate) is_wide: bool,
    /// Its content.
    pub(crate) body: Markup,
}

/// The sections that have a content, below links to them.
pub(crate) fn sections(all: &[Section]) -> Markup {
    let all: Vec<&Section> = all.iter().filter(|section| !section.body.0.is_empty()).collect();
    html! {
        nav aria-label="Sections" { @for section in &all { a href={ "#" (section.id) } { (section.title) } " " } }
        @for section in &all {
            section id=(section.id) class=[section.is_wide.then_some("wide")] {
                h2 { (section.title) }
                (section.body)
            }
        }
    }
}
