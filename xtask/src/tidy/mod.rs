//! `cargo xtask tidy`: which crates depend on which, which files import each other, and which are long.

use anyhow::{Result, bail};

use crate::process::say;

mod circles;
mod scan;
mod tree;

use tree::{Crate, Tree};

/// The crates that each crate may have in its `[dependencies]`. A crate that does not exist yet may be listed.
const ALLOWED: &[(&str, &[&str])] = &[
    ("twtrace-common", &[]),
    ("twtrace-core", &["twtrace-common"]),
    ("twtrace-testkit", &["twtrace-core", "twtrace-common"]),
    ("twtrace-recording", &["twtrace-core", "twtrace-common"]),
    ("twtrace-fuzz", &["twtrace-core", "twtrace-recording", "twtrace-testkit"]),
    ("twtrace-probe", &["twtrace-core", "twtrace-common"]),
    ("twtrace-view", &["twtrace-core", "twtrace-common"]),
    ("twtrace", &["twtrace-common", "twtrace-core", "twtrace-recording", "twtrace-probe", "twtrace-view"]),
    ("xtask", &[]),
    ("twtrace-tests", ANYTHING),
];

const ANYTHING: &[&str] = &["*"];

/// Folders of crates whose modules must not import each other: no command uses its sibling. What two of them need is
/// outside of the folder.
const APART: &[(&str, &str)] = &[("twtrace", "cmd")];

/// How many files of a crate may import each other in a circle, for crates that are not in [`LIMITS`].
const LIMIT: usize = 4;

/// Crates whose widest circle was wider than [`LIMIT`] when this check was written, with its width today. Never raise a
/// number here. Lower it when the circle has shrunk, and remove its line when it is [`LIMIT`].
const LIMITS: &[(&str, usize)] = &[];

/// Lines that a file may have without a reason in [`REASONS`].
const LINES: usize = 500;

/// Why a file is longer than [`LINES`]. A file that has moved or shrunk is printed, so that its line can be removed.
const REASONS: &[(&str, &str)] = &[];

/// The rules that the structure must follow.
struct Rules<'a> {
    allowed: &'a [(&'a str, &'a [&'a str])],
    limits: &'a [(&'a str, usize)],
    reasons: &'a [(&'a str, &'a str)],
}

const RULES: Rules<'static> = Rules { allowed: ALLOWED, limits: LIMITS, reasons: REASONS };

impl<'a> Rules<'a> {
    fn limit(&self, name: &str) -> usize {
        self.limits.iter().find(|(of, _)| *of == name).map_or(LIMIT, |(_, limit)| *limit)
    }

    fn reason(&self, path: &str) -> Option<&'a str> {
        self.reasons.iter().find(|(of, _)| *of == path).map(|(_, reason)| *reason)
    }
}

/// Prints the structure of the tree.
///
/// # Errors
/// Names what breaks a rule, or what cannot be read.
pub fn run() -> Result<()> {
    let tree = Tree::read(LINES, APART)?;
    for line in tree.lines(&RULES) {
        say(&line);
    }
    let faults = tree.faults(&RULES);
    if faults.is_empty() {
        return Ok(());
    }
    say("\nfaults");
    for fault in &faults {
        say(&format!("  {fault}"));
    }
    bail!("faults in the structure of the tree: {}; what to do with each is above", faults.len())
}

impl Tree {
    /// What is printed.
    fn lines(&self, rules: &Rules) -> Vec<String> {
        let mut lines = vec!["crates".to_owned()];
        for one in &self.crates {
            let to = if one.arrows.is_empty() { "nothing of ours".to_owned() } else { one.arrows.join(", ") };
            lines.push(format!("  {} -> {to}", one.name));
        }
        lines.push("\nwidest circle of files that import each other".to_owned());
        for Crate { name, circle, .. } in &self.crates {
            lines.push(if circle.is_empty() {
                format!("  {name}: no circle")
            } else {
                format!("  {name}: {} of at most {}: {}", circle.len(), rules.limit(name), circle.join(", "))
            });
        }
        lines.push(format!("\nfiles of more than {LINES} lines"));
        for (path, count) in &self.long {
            lines.push(format!("  {count} {path}: {}", rules.reason(path).unwrap_or("no reason")));
        }
        for (path, _) in rules.reasons.iter().filter(|(path, _)| !self.long.iter().any(|(long, _)| long == path)) {
            lines.push(format!("  {path} is not there or no longer that long: its line in REASONS can go"));
        }
        lines
    }

    /// What breaks a rule, each with what to do.
    fn faults(&self, rules: &Rules) -> Vec<String> {
        let mut faults = Vec::new();
        for Crate { name, arrows, circle, siblings } in &self.crates {
            match rules.allowed.iter().find(|(of, _)| of == name) {
                None => faults.push(format!("{name} is not in ALLOWED: add what it may depend on")),
                Some((_, ANYTHING)) => {}
                Some((_, allowed)) => {
                    for to in arrows.iter().filter(|to| !allowed.contains(&to.as_str())) {
                        faults.push(format!(
                            "{name} may not depend on {to}: move what it needs of it to a crate below both"
                        ));
                    }
                }
            }
            for (from, to) in siblings {
                faults
                    .push(format!("{from} of {name} may not import from {to}: move what both need out of the folder"));
            }
            let (width, limit) = (circle.len(), rules.limit(name));
            if width > limit {
                faults.push(format!(
                    "{width} files of {name} import each other, {limit} may: take one out of the circle"
                ));
            } else if width <= LIMIT && limit > LIMIT {
                faults.push(format!("at most {width} files of {name} import each other: remove its line from LIMITS"));
            } else if width < limit && limit > LIMIT {
                faults.push(format!(
                    "at most {width} files of {name} import each other: write that into LIMITS, not {limit}"
                ));
            }
        }
        for (path, lines) in self.long.iter().filter(|(path, _)| rules.reason(path).is_none()) {
            faults.push(format!(
                "{path} has {lines} lines: split it, or write into REASONS why it is longer than {LINES}"
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const FEW: Rules<'static> = Rules {
        allowed: &[("low", &[]), ("high", &["low", "new"]), ("wide", &[]), ("all", ANYTHING)],
        limits: &[("wide", 7)],
        reasons: &[("a.rs", "a table"), ("gone.rs", "a list")],
    };

    fn faults(name: &str, arrows: &[&str], width: usize) -> Vec<String> {
        let arrows = arrows.iter().map(|to| (*to).to_owned()).collect();
        let circle = (0..width).map(|file| format!("{file}.rs")).collect();
        let one = Crate { name: name.to_owned(), arrows, circle, siblings: Vec::new() };
        Tree { crates: vec![one], long: Vec::new() }.faults(&FEW)
    }

    #[test]
    fn this_checkout_has_no_fault() {
        let tree = Tree::read(LINES, APART).unwrap();
        let faults = tree.faults(&RULES);
        assert!(faults.is_empty(), "{}\n\nfaults\n  {}", tree.lines(&RULES).join("\n"), faults.join("\n  "));
    }

    #[test]
    fn this_checkout_shows_its_crates_and_files() {
        let tree = Tree::read(LINES, APART).unwrap();
        let core = tree.crates.iter().find(|one| one.name == "twtrace-core").unwrap();
        assert_eq!(core.arrows, ["twtrace-common"]);
        let lines = tree.lines(&RULES);
        assert!(lines.iter().any(|line| line == "  twtrace-core -> twtrace-common"), "{lines:?}");
    }

    #[test]
    fn arrow_that_is_allowed_is_no_fault() {
        assert_eq!(faults("high", &["low"], 0), [""; 0]);
        assert_eq!(faults("all", &["low", "high"], 0), [""; 0]);
    }

    #[test]
    fn arrow_up_is_a_fault() {
        let found = faults("low", &["high"], 0);
        assert_eq!(found, ["low may not depend on high: move what it needs of it to a crate below both"]);
    }

    #[test]
    fn import_from_a_sibling_is_a_fault() {
        let siblings = vec![("cmd/a.rs".to_owned(), "cmd/b.rs".to_owned())];
        let one = Crate { name: "low".to_owned(), arrows: Vec::new(), circle: Vec::new(), siblings };
        let found = Tree { crates: vec![one], long: Vec::new() }.faults(&FEW);
        assert_eq!(found, ["cmd/a.rs of low may not import from cmd/b.rs: move what both need out of the folder"]);
    }

    #[test]
    fn crate_without_a_line_is_a_fault() {
        assert_eq!(faults("other", &[], 0), ["other is not in ALLOWED: add what it may depend on"]);
    }

    #[test]
    fn circle_up_to_the_limit_is_no_fault() {
        assert_eq!(faults("low", &[], 4), [""; 0]);
        assert_eq!(faults("wide", &[], 7), [""; 0]);
    }

    #[test]
    fn circle_over_the_limit_is_a_fault() {
        let found = faults("low", &[], 5);
        assert_eq!(found, ["5 files of low import each other, 4 may: take one out of the circle"]);
        let found = faults("wide", &[], 8);
        assert_eq!(found, ["8 files of wide import each other, 7 may: take one out of the circle"]);
    }

    #[test]
    fn limit_wider_than_the_circle_is_a_fault() {
        let found = faults("wide", &[], 6);
        assert_eq!(found, ["at most 6 files of wide import each other: write that into LIMITS, not 7"]);
        let found = faults("wide", &[], 4);
        assert_eq!(found, ["at most 4 files of wide import each other: remove its line from LIMITS"]);
    }

    #[test]
    fn long_file_without_a_reason_is_a_fault() {
        let long = [("a.rs", 501), ("b.rs", 502)].map(|(path, lines)| (path.to_owned(), lines));
        let tree = Tree { crates: Vec::new(), long: long.to_vec() };
        assert_eq!(
            tree.faults(&FEW),
            ["b.rs has 502 lines: split it, or write into REASONS why it is longer than 500"]
        );
        let lines = tree.lines(&FEW);
        assert_eq!(
            lines[lines.len() - 3..],
            [
                "  501 a.rs: a table",
                "  502 b.rs: no reason",
                "  gone.rs is not there or no longer that long: its line in REASONS can go"
            ]
        );
    }
}
