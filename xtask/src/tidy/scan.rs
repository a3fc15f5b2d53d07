//! The paths in a Rust source file, by its tokens alone: enough to see which modules it names.

/// One piece of source. Comments and literals are left out, and a lifetime is its bare name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Colons,
    Mark(char),
}

use Token::{Colons, Mark, Word};

/// Every path in the source of `module` that begins with `crate`, `self` or `super`, from the root of the crate and
/// without duplicates.
///
/// A path that begins with the name of a child is left out: a parent's use of its children says as little as their
/// declaration.
pub(super) fn paths(source: &str, module: &[&str]) -> Vec<Vec<String>> {
    let tokens = without_tests(&tokens(source));
    let mut found = Vec::new();
    // Inline modules around the token, each with the number of open braces outside of it.
    let mut inline: Vec<(&str, usize)> = Vec::new();
    let mut braces = 0;
    let mut at = 0;
    while let Some(&token) = tokens.get(at) {
        let rest = &tokens[at + 1..];
        at += 1;
        match (token, rest) {
            // `pub(in crate::a)` says who may see an item, and imports nothing.
            (Word("pub"), [Mark('('), ..]) => at += item_length(rest),
            (Word("mod"), [Word(name), Mark('{'), ..]) => {
                inline.push((name, braces));
                braces += 1;
                at += 2;
            }
            (Word(_), _) if at < 2 || tokens[at - 2] != Colons => {
                let mut written = Vec::new();
                at = leaves(&tokens, at - 1, &mut Vec::new(), &mut written);
                let base: Vec<&str> = module.iter().copied().chain(inline.iter().map(|(name, _)| *name)).collect();
                written.retain(|path| path.len() > 1 && matches!(path[0], "crate" | "self" | "super"));
                found.extend(written.iter().map(|path| absolute(&base, path)));
            }
            (Mark('{'), _) => braces += 1,
            (Mark('}'), _) => {
                braces = braces.saturating_sub(1);
                inline.pop_if(|(_, outside)| *outside == braces);
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The path as written in `module`, from the root of the crate.
fn absolute(module: &[&str], path: &[&str]) -> Vec<String> {
    let mut full = module.to_vec();
    for segment in path {
        match *segment {
            "crate" => full.clear(),
            "super" => {
                full.pop();
            }
            "self" => {}
            name => full.push(name),
        }
    }
    full.into_iter().map(str::to_owned).collect()
}

/// Collects the paths that begin at `at`, several where there is a group, and returns where they end.
fn leaves<'a>(tokens: &[Token<'a>], at: usize, before: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) -> usize {
    match tokens.get(at) {
        Some(Word(name)) => {
            before.push(name);
            let next = tokens.get(at + 1..).unwrap_or_default();
            let end = if let [Colons, Word(_) | Mark('{' | '*'), ..] = next {
                leaves(tokens, at + 2, before, found)
            } else {
                found.push(before.clone());
                at + 1
            };
            before.pop();
            end
        }
        Some(Mark('{')) => {
            let mut at = at + 1;
            loop {
                at = match tokens.get(at) {
                    Some(Word("as")) => at + 2,
                    Some(Word(_) | Mark('{' | '*')) => leaves(tokens, at, before, found),
                    Some(Mark('}')) => return at + 1,
                    Some(_) => at + 1,
                    None => return at,
                };
            }
        }
        _ => {
            found.push(before.clone());
            at + 1
        }
    }
}

/// Leaves out each item behind `#[cfg(test)]`, and all behind `#![cfg(test)]`.
///
/// Not the whole rest of the file: `#[cfg(test)] mod tests;` may stand between other modules at its top.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const CFG_TEST: [Token<'static>; 6] = [Mark('['), Word("cfg"), Mark('('), Word("test"), Mark(')'), Mark(']')];
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let [token, behind @ ..] = rest {
        if *token == Mark('#') {
            if behind.strip_prefix(&[Mark('!')]).is_some_and(|inner| inner.starts_with(&CFG_TEST)) {
                break;
            }
            if let Some(mut item) = behind.strip_prefix(&CFG_TEST) {
                while let [Mark('#'), attribute @ ..] = item {
                    item = &attribute[item_length(attribute)..];
                }
                rest = &item[item_length(item)..];
                continue;
            }
        }
        kept.push(*token);
        rest = behind;
    }
    kept
}

/// Tokens up to the `;` that ends an item, or to the end of what is in its first braces. For an attribute or a
/// visibility, which begin with a bracket, it is up to the end of that one.
fn item_length(tokens: &[Token]) -> usize {
    let closes_all = match tokens.first() {
        Some(Mark('[')) => ']',
        Some(Mark('(')) => ')',
        _ => '}',
    };
    let mut open = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Mark('(' | '[' | '{') => open += 1,
            // The end of what the item is in, as behind the last variant of an enum.
            Mark(')' | ']' | '}') if open == 0 => return at,
            Mark(close @ (')' | ']' | '}')) => {
                open -= 1;
                if open == 0 && *close == closes_all {
                    return at + 1;
                }
            }
            Mark(';') if open == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with("r#") {
            2
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else if rest.starts_with("::") {
            found.push(Colons);
            2
        } else if is_word(first) {
            let length = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            found.push(Word(&rest[..length]));
            length
        } else {
            if !first.is_whitespace() {
                found.push(Mark(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Bytes of the comment at the start of `text`, with those inside of it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += first.len_utf8();
        }
    }
    at
}

/// Bytes of the raw string at the start of `text`, if there is one. `r#type` is a word.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let start = prefix.len() + hashes + 1;
    let body = text[start - 1..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// Bytes of the literal at the start of `text`, up to the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the character at the start of `text`, or of the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut behind = text.chars().skip(1);
    match (behind.next(), behind.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        paths(source, &["a", "b"]).iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn path_of_each_kind_is_returned_from_the_root() {
        let source = "use crate::x::X; use super::y; fn f() -> super::super::W { self::z::f(child::g()) }";
        assert_eq!(found(source), ["W", "a::b::z::f", "a::y", "x::X"]);
    }

    #[test]
    fn group_over_lines_is_every_leaf() {
        let source = "use crate::{\n    self,\n    x::{self, X as Y, deep::{A, B}},\n    y::*,\n};\nuse {super::z};";
        assert_eq!(found(source), ["", "a::z", "x", "x::X", "x::deep::A", "x::deep::B", "y"]);
    }

    #[test]
    fn foreign_path_is_left_out() {
        assert_eq!(
            found("use std::{fmt::{self, Write as _}, io::self}; use ::std::fs; self.x; Self::x; $crate::a!()"),
            ["a"]
        );
    }

    #[test]
    fn comment_is_left_out() {
        assert_eq!(found("// crate::a\n//! [`crate::b`]\n/* crate::c /* crate::d */ crate::e */ crate::f()"), ["f"]);
    }

    #[test]
    fn literal_is_left_out() {
        let source =
            r###"f("crate::a \" crate::b", r#"crate::c " crate::d"#, b"\\", '"', '\'', '\u{22}'); crate::e()"###;
        assert_eq!(found(source), ["e"]);
        assert_eq!(found("fn f<'a>(x: &'a str) -> crate::r#type::T<'a>"), ["type::T"]);
    }

    #[test]
    fn test_item_is_left_out_and_what_follows_is_not() {
        let source = "#[cfg(test)] mod tests; use crate::a::A; #[cfg(test)] #[allow(x)] pub(crate) fn t(x: [u8; 2]) \
                      { crate::b::f({}); } crate::c::f(); #[cfg(test)] mod tests { use crate::d::D; mod e {} }";
        assert_eq!(found(source), ["a::A", "c::f"]);
        assert_eq!(found("enum E { A, #[cfg(test)] B(crate::a::A) } crate::b::f()"), ["b::f"]);
        assert_eq!(found("use crate::a::A;\n#![cfg(test)]\nuse crate::b::B;"), ["a::A"]);
    }

    #[test]
    fn inline_module_is_one_level_deeper() {
        let source = "mod c { fn f() { super::x::f(); self::y::f() } } mod d; super::z::f()";
        assert_eq!(found(source), ["a::b::c::y::f", "a::b::x::f", "a::z::f"]);
    }

    #[test]
    fn visibility_is_no_import() {
        assert_eq!(
            found("pub(in crate::x) fn f(); pub(crate) use super::y; pub(super) struct S(crate::z::Z);"),
            ["a::y", "z::Z"]
        );
    }

    #[test]
    fn unfinished_source_ends() {
        for source in ["use crate::{a::{b", "/* x", "\"x", "r#\"x", "'", "#[cfg(test)]", "crate::"] {
            paths(source, &[]);
        }
    }
}
