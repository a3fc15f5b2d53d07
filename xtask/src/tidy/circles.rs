//! Source files of a crate that import each other.

use std::collections::HashMap;

use super::scan;

/// A source file of a crate: its path in `src/`, and its text.
pub(super) type Source = (String, String);

/// The paths of the files in the widest circle of imports, sorted. Empty: there is none.
pub(super) fn widest(files: &[Source]) -> Vec<String> {
    let arrows = arrows(files);
    let circles = strongly_connected(&arrows).into_iter().filter(|circle| circle.len() > 1);
    let mut names: Vec<String> =
        circles.max_by_key(Vec::len).unwrap_or_default().iter().map(|&file| files[file].0.clone()).collect();
    names.sort();
    names
}

/// Pairs of files of which the first imports from the second, both in one folder of the crate and of different modules
/// there: `cmd/a.rs` and `cmd/b/c.rs`, but not `cmd/a.rs` and `cmd/a/c.rs`.
pub(super) fn siblings(files: &[Source], folder: &str) -> Vec<(String, String)> {
    let module = |at: usize| {
        let path = files[at].0.strip_prefix(folder)?.strip_prefix('/')?.trim_end_matches(".rs");
        Some(path.split('/').next().unwrap_or(path)).filter(|name| *name != "mod")
    };
    let mut pairs = Vec::new();
    for (from, targets) in arrows(files).into_iter().enumerate() {
        for to in targets {
            if matches!((module(from), module(to)), (Some(one), Some(other)) if one != other) {
                pairs.push((files[from].0.clone(), files[to].0.clone()));
            }
        }
    }
    pairs.sort();
    pairs
}

/// For each file, the files that it imports from.
fn arrows(files: &[Source]) -> Vec<Vec<usize>> {
    let modules: HashMap<Vec<&str>, usize> =
        files.iter().enumerate().filter_map(|(at, (path, _))| Some((module(path, files)?, at))).collect();
    let mut arrows = vec![Vec::new(); files.len()];
    for (module, &at) in &modules {
        for path in scan::paths(&files[at].1, module) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let target = (0..=path.len()).rev().find_map(|length| modules.get(&path[..length]));
            arrows[at].extend(target.filter(|target| **target != at));
        }
    }
    arrows
}

/// The module that a file is, from the root of the crate. Tests, and programs next to a library, are no modules of it:
/// their imports are not part of its circles.
fn module<'a>(path: &'a str, files: &[Source]) -> Option<Vec<&'a str>> {
    let mut names: Vec<&str> = path.strip_suffix(".rs")?.split('/').collect();
    let name = *names.last()?;
    let is_test = name == "tests" || name.starts_with("tests_") || name.ends_with("_tests") || name == "fixture";
    if is_test || names.contains(&"tests") || names.first() == Some(&"bin") {
        return None;
    }
    match (name, names.len()) {
        ("lib", 1) => names.clear(),
        ("main", 1) => {
            if files.iter().any(|(path, _)| path == "lib.rs") {
                return None;
            }
            names.clear();
        }
        ("mod", _) => {
            names.pop();
        }
        _ => {}
    }
    Some(names)
}

/// The groups of nodes that reach each other, by Tarjan's algorithm. A node that nothing leads back to is alone in its
/// group.
fn strongly_connected(arrows: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search =
        Search { arrows, order: vec![None; arrows.len()], is_open: vec![false; arrows.len()], ..Search::default() };
    for node in 0..arrows.len() {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search.found
}

#[derive(Default)]
struct Search<'a> {
    arrows: &'a [Vec<usize>],
    /// When each node was visited.
    order: Vec<Option<usize>>,
    visited: usize,
    /// Nodes whose group is not complete yet.
    open: Vec<usize>,
    is_open: Vec<bool>,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    /// Visits what a node leads to, and returns the earliest open node that is reached. As deep as there are files.
    fn visit(&mut self, node: usize) -> usize {
        let own = self.visited;
        self.visited += 1;
        self.order[node] = Some(own);
        self.open.push(node);
        self.is_open[node] = true;
        let mut earliest = own;
        for &next in &self.arrows[node] {
            match self.order[next] {
                None => earliest = earliest.min(self.visit(next)),
                Some(order) if self.is_open[next] => earliest = earliest.min(order),
                Some(_) => {}
            }
        }
        if earliest == own {
            let start = self.open.iter().rposition(|open| *open == node).unwrap_or_default();
            let group = self.open.split_off(start);
            for &member in &group {
                self.is_open[member] = false;
            }
            self.found.push(group);
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(arrows: &[&[usize]]) -> Vec<Vec<usize>> {
        let arrows: Vec<Vec<usize>> = arrows.iter().map(|to| to.to_vec()).collect();
        let mut groups = strongly_connected(&arrows);
        groups.iter_mut().for_each(|group| group.sort_unstable());
        groups.sort();
        groups
    }

    fn circle(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<Source> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        widest(&files)
    }

    #[test]
    fn import_from_another_module_of_the_folder_is_found_and_from_a_child_is_not() {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let files = [
            file("lib.rs", "mod cmd;\nmod shared;"),
            file("cmd/mod.rs", "mod a;\nmod b;"),
            file("cmd/a.rs", "use crate::shared::x;\nuse super::b::y;\nuse self::c::z;\nmod c;"),
            file("cmd/a/c.rs", "use super::z;"),
            file("cmd/b.rs", "use crate::cmd::a::c::z;"),
            file("shared.rs", "use crate::cmd::a::w;"),
        ];
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(siblings(&files, "cmd"), [pair("cmd/a.rs", "cmd/b.rs"), pair("cmd/b.rs", "cmd/a/c.rs")]);
    }

    #[test]
    fn graph_without_circle_is_single_nodes() {
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[&[1, 2], &[2], &[2]]), [[0], [1], [2]]);
    }

    #[test]
    fn circles_that_share_a_node_are_one_group() {
        assert_eq!(groups(&[&[1], &[0, 2], &[1], &[0]]), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn arrow_between_circles_keeps_them_apart() {
        assert_eq!(groups(&[&[1], &[2], &[0, 3], &[4], &[3], &[4, 0]]), [vec![0, 1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn path_is_resolved_to_the_deepest_file() {
        let files = [
            ("lib.rs", "mod a; mod d;"),
            ("a/mod.rs", "mod b; mod c;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", "use crate::d::e::E;"),
            ("d.rs", "mod e;"),
            ("d/e.rs", "use crate::a::b::B::new;"),
        ];
        assert_eq!(circle(&files), ["a/b.rs", "a/c.rs", "d/e.rs"]);
    }

    #[test]
    fn parent_that_only_declares_and_calls_its_children_is_in_no_circle() {
        let files = [("lib.rs", "mod a; pub use a::X; fn f() { a::g() }"), ("a.rs", "use crate::{X, Y};")];
        assert_eq!(circle(&files), [""; 0]);
    }

    #[test]
    fn parent_that_imports_from_a_child_by_a_full_path_is_in_a_circle_with_it() {
        assert_eq!(circle(&[("lib.rs", "use crate::a::X;"), ("a.rs", "use super::Y;")]), ["a.rs", "lib.rs"]);
    }

    #[test]
    fn widest_of_two_circles_is_returned() {
        let two = [("a.rs", "crate::b::f()"), ("b.rs", "super::a::f()")];
        let three = [("c.rs", "crate::d::f()"), ("d.rs", "crate::e::f()"), ("e.rs", "crate::{c::f}")];
        assert_eq!(circle(&[two.as_slice(), &three].concat()), ["c.rs", "d.rs", "e.rs"]);
    }

    #[test]
    fn test_file_or_program_is_in_no_circle() {
        for name in ["a/tests.rs", "a/tests/x.rs", "a_tests.rs", "tests_a.rs", "fixture.rs", "main.rs", "bin/x.rs"] {
            let module = name.trim_end_matches(".rs").replace('/', "::");
            assert_eq!(
                circle(&[("lib.rs", &format!("crate::{module}::f()")), (name, "crate::f()")]),
                [""; 0],
                "{name}"
            );
        }
    }

    #[test]
    fn program_without_library_is_the_root() {
        assert_eq!(circle(&[("main.rs", "mod a; self::a::f()"), ("a.rs", "crate::X::f()")]), ["a.rs", "main.rs"]);
    }
}
