//! The configuration file of the screen: `config.toml` in the folder `twtrace` of the XDG base directories.
//!
//! It changes what is on the screen alone: reports for other programs are the same on every host. A mistake in it never
//! stops a trace: the defaults apply, and the screen says what is wrong.

use crate::cli::{Colours, ViewArgs, interval};
use crate::tui::model::Columns;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twtrace_core::snapshot::{GROUPINGS, GroupBy};
use twtrace_view::columns;
use twtrace_view::order::Sort;

/// Name of the file, below `twtrace`.
const FILE: &str = "config.toml";

/// Largest file that is read, in bytes.
const MOST: u64 = 64 * 1024;

/// The settings, with their meanings. It is valid, and sets nothing.
pub const DEFAULT: &str = r#"# Configuration of the screens of `twtrace top` and `twtrace replay`. Reports (--once, --json, --csv) do not depend on it,
# and options on the command line come first. `twtrace config` checks this file.

# Colours: "auto" (dark or light, as the background of the terminal is), "dark", "light", "contrast", "none".
# theme = "auto"

# What a row of the first list is: "process", "pid", "program", "command", "parent", "ancestor", "user", "cgroup", "unit",
# "container", "image", "pod", "workload", "cluster-namespace", "exe", "netns".
# by = "process"

# Order of rows: a figure such as "created", "live", "rate" or "errors", another column such as "pid" or "ports", or
# "name". `twtrace top --help` has all of them.
# sort = "created"

# Time between two updates of the screen, at least "100ms".
# interval = "1s"

# A filter to begin with, as it is typed after /.
# filter = "user:www-data"

[columns]
# Columns in this order, by their headings, after the name of the row. In the screen, c chooses columns and y copies the
# line for this file. Those that have no room are left out.
# processes = ["PID", "USER", "PROCS", "SHARE", "CREATED", "LIVE", "CREATED/S", "ERRORS", "COMMAND LINE"]
# destinations = ["ROLE", "CREATED", "LIVE", "PORTS", "FULL IN", "MAX/S", "ERRORS"]
"#;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Colours.
    pub theme: Colours,
    #[serde(deserialize_with = "grouping")]
    by: Option<GroupBy>,
    #[serde(deserialize_with = "order")]
    sort: Option<Sort>,
    #[serde(deserialize_with = "time")]
    interval: Option<Duration>,
    filter: String,
    columns: Lists,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lists {
    #[serde(deserialize_with = "of_processes")]
    processes: Option<Vec<String>>,
    #[serde(deserialize_with = "of_destinations")]
    destinations: Option<Vec<String>>,
}

fn grouping<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GroupBy>, D::Error> {
    let name = String::deserialize(from)?;
    let all = || GROUPINGS.iter().filter(|grouping| grouping.by.group().is_some()).map(|grouping| grouping.name);
    let found = GroupBy::of(&name).and_then(GroupBy::group);
    found
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("by: expected one of {}", all().collect::<Vec<_>>().join(", "))))
}

fn order<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Sort>, D::Error> {
    let name = String::deserialize(from)?;
    let found = Sort::of(&name);
    found.map(Some).ok_or_else(|| D::Error::custom("sort: expected an order, see `twtrace top --help`"))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    interval(&text).map(Some).map_err(|error| D::Error::custom(format!("interval: {error}")))
}

fn of_processes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    known(from, &columns::headings_of_groups())
}

fn of_destinations<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    known(from, &columns::headings_of_destinations())
}

/// Headings that exist.
fn known<'de, D: Deserializer<'de>>(from: D, headings: &[&str]) -> Result<Option<Vec<String>>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let is_known = |name: &&String| headings.iter().any(|heading| heading.eq_ignore_ascii_case(name.trim()));
    match names.iter().find(|name| !is_known(name)) {
        Some(name) => Err(D::Error::custom(format!("no column {name:?}; there are {}", headings.join(", ")))),
        None => Ok(Some(names)),
    }
}

/// A file, and what it says.
pub struct Found {
    /// Where it is, or where it would be looked for first.
    pub path: Option<PathBuf>,
    /// Whether there is one.
    pub exists: bool,
    /// Its content, or what is wrong with it, in one line.
    pub config: Result<Config, String>,
}

/// Reads the first file that exists.
pub fn find() -> Found {
    let folders = xdg::BaseDirectories::with_prefix("twtrace");
    match folders.find_config_file(FILE) {
        Some(path) => {
            let config = read(&path).map_err(|error| format!("{}: {error}", path.display()));
            Found { path: Some(path), exists: true, config }
        }
        None => Found { path: folders.get_config_file(FILE), exists: false, config: Ok(Config::default()) },
    }
}

fn read(path: &Path) -> Result<Config, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    // A name that leads to a device has no end.
    file.take(MOST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MOST {
        return Err(format!("larger than {} KiB", MOST / 1024));
    }
    parse(&text)
}

/// The settings of a text. The error is one line, with the number of the line that is wrong.
fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
            None => message,
        }
    })
}

/// What the screen begins with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Grouping.
    pub by: GroupBy,
    /// Order.
    pub sort: Sort,
    /// Colours; `None` where they are not chosen.
    pub colours: Colours,
    /// Visible columns.
    pub columns: Columns,
    /// Filter.
    pub filter: String,
    /// Time between two snapshots.
    pub interval: Duration,
    /// The agent that is read, if any.
    pub agent: Option<String>,
    /// What is wrong with the file.
    pub mistake: Option<String>,
}

impl Settings {
    /// Those of the command line, then of the file, then the defaults.
    pub fn new(args: &ViewArgs, every: Option<Duration>, found: Found) -> Self {
        let (config, mistake) = match found.config {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(format!("the configuration is not used: {error}"))),
        };
        let colours = match (args.theme, args.no_color, config.theme) {
            (Some(theme), ..) => theme,
            (None, true, _) => Colours::None,
            (None, false, theme) => theme,
        };
        Self {
            by: args.by.or(config.by).unwrap_or_default(),
            sort: args.sort.or(config.sort).unwrap_or_default(),
            colours,
            columns: Columns { processes: config.columns.processes, destinations: config.columns.destinations },
            filter: config.filter,
            interval: every.or(config.interval).unwrap_or(INTERVAL),
            agent: None,
            mistake,
        }
    }
}

/// Time between two snapshots by default.
pub const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn the_documented_defaults_are_valid_with_and_without_their_comments() {
        assert_eq!(parse(DEFAULT), Ok(Config::default()));
        // Settings are `# name = value`, on a line of their own.
        let is_setting = |line: &&str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = "));
        let text: String = DEFAULT
            .lines()
            .filter(|line| is_setting(line) || !line.starts_with('#'))
            .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
            .collect();
        let config = parse(&text).unwrap();
        assert_eq!((config.by, config.sort), (Some(GroupBy::Process), Some(Sort::DEFAULT)));
        assert_eq!((config.interval, config.theme), (Some(INTERVAL), Colours::Auto));
        assert_eq!((config.columns.processes.unwrap().len(), config.columns.destinations.unwrap().len()), (9, 7));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("theme = \"pink\"", "line 1: unknown variant `pink`"),
            ("\ncolour = 1", "line 2: unknown field `colour`"),
            ("by = \"destination\"", "line 1: by: expected one of process, pid"),
            ("sort = \"x\"", "line 1: sort: expected an order"),
            ("interval = \"1ms\"", "line 1: interval: expected at least 100ms"),
            ("interval = 1", "line 1: invalid type"),
            ("[columns]\nprocesses = [\"PID\", \"X\"]", "line 2: no column \"X\"; there are PID, USER"),
            ("[columns]\ndestinations = [\"PID\"]", "line 2: no column \"PID\"; there are ROLE"),
            ("by = ", "line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains('\n'), "{text}: {error}");
        }
        let config =
            parse("[columns]\nprocesses = [\" pid\", \"1st fin\", \"retrans\", \"netns\", \"Share\"]").unwrap();
        assert_eq!(config.columns.processes.unwrap().len(), 5);
    }
}
