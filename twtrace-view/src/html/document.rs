//! The page around the pieces: one file without a network, a font or a plug-in.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page's look.
pub(crate) const STYLE: &str = include_str!("style.css");

/// What explores the page: sorts tables, and shows the values under the pointer. The page is whole without it.
pub(crate) const SCRIPT: &str = include_str!("explore.js");

/// What keeps a live page up to date.
pub(crate) const LIVE: &str = include_str!("live.js");

/// Nothing is fetched, and nothing but these two runs or applies, whatever text gets into the page: the SHA-256 of
/// `style.css` and of `explore.js`. A test says what they are after a change.
pub(crate) const POLICY: &str = concat!(
    "default-src 'none'; base-uri 'none'; form-action 'none'; ",
    "style-src 'sha256-7Sc8GU2RAyhGMI1bmnrgKPGmUgzbYdfTX9bbaTN37yY='; ",
    "script-src 'sha256-cFbblyNqn/neHygqOrYLgmx5VPw0vEPytQY4BNn8F84='",
);

/// The same for a live page, which fetches from where it came from alone: the SHA-256 of `live.js` as well.
pub(crate) const LIVE_POLICY: &str = concat!(
    "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; ",
    "style-src 'sha256-7Sc8GU2RAyhGMI1bmnrgKPGmUgzbYdfTX9bbaTN37yY='; ",
    "script-src 'sha256-cFbblyNqn/neHygqOrYLgmx5VPw0vEPytQY4BNn8F84=' 'sha256-i3fGvdJMcIcfxV45R3wq3NdmYVOZMzkDZIOZJTo5kcc='",
);

/// A page with this title.
pub(crate) fn document(title: &str, main: &Markup) -> Markup {
    page(title, POLICY, &html! {}, main, &html! {})
}

/// A live page: `main` is what each snapshot replaces.
pub(crate) fn live(title: &str, main: &Markup) -> Markup {
    let head = html! {
        p class="live" {
            span id="state" role="status" { "without a script, reload for a newer one" } " "
            button id="freeze" type="button" hidden { "Freeze" }
        }
    };
    page(title, LIVE_POLICY, &head, main, &html! { script { (PreEscaped(LIVE)) } })
}

fn page(title: &str, policy: &str, head: &Markup, main: &Markup, scripts: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("twtrace ", env!("CARGO_PKG_VERSION")));
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head)
                main { (main) }
                footer { "twtrace " (env!("CARGO_PKG_VERSION")) }
                script { (PreEscaped(SCRIPT)) }
                (scripts)
            }
        }
    }
}
