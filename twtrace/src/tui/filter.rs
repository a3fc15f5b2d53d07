//! The filter of a list: words that must all fit. A word is a text that a row contains, a name with what it contains
//! (`program:redis`), a figure with a limit (`created>100`), or a regular expression between slashes (`/^php-fpm/`,
//! `program:/^php/`).

use crate::cli::{destination, time};
use ipnet::IpNet;
use regex_lite::{Regex, RegexBuilder};
use std::net::IpAddr;
use strum::VariantNames as _;
use twtrace_core::counts::{Counts, FIELDS, Field};
use twtrace_core::event::ProcessFacts;
use twtrace_core::snapshot::RunsIn;
use twtrace_view::{label, text};

/// What a word asks of a row, by its name before the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Name {
    /// What an operator calls the program.
    Program,
    /// The very PID.
    Pid,
    /// User by name or number.
    User,
    /// Command and PID of the parent.
    Parent,
    /// Unit, container or path of the cgroup.
    Cgroup,
    /// Container by name or id.
    Container,
    /// Image of the container.
    Image,
    /// Pod by name or uid.
    Pod,
    /// Workload of the pod.
    Workload,
    /// Address and port of a destination, or the network that it is in.
    Dest,
    /// Network namespace.
    Netns,
    /// Substate of its TIME_WAIT sockets.
    State,
}

/// How a figure compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    More,
    Less,
    Equal,
    AtLeast,
    AtMost,
}

/// What a text must be like.
#[derive(Clone, Debug)]
enum Like {
    /// In lower case.
    Contains(String),
    Is(String),
    Matches(Regex),
}

impl Like {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Contains(wanted) => text.to_lowercase().contains(wanted),
            Self::Is(wanted) => text == wanted,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

#[derive(Clone, Debug)]
enum Word {
    Text(Like),
    Named(Name, Like),
    Network(IpNet, Option<u16>),
    Figure(&'static Field, Limit, f64),
}

/// All words.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    words: Vec<Word>,
}

/// A question about a text.
pub(super) type Test<'t> = &'t dyn Fn(&str) -> bool;

/// What a row says to one word.
pub(super) trait Row {
    /// Whether any of its texts passes.
    fn any(&self, passes: Test<'_>) -> bool;
    /// Whether any of its names of that kind passes.
    fn is(&self, name: Name, passes: Test<'_>) -> bool;
    /// Whether any of its destinations passes.
    fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool;
    /// The value of a figure, if it has one.
    fn figure(&self, field: &Field) -> Option<f64>;
}

impl Filter {
    /// As typed. What is neither a known name nor a known figure is text, as `10.0.1.2:5432`.
    pub(super) fn of(typed: &str) -> Self {
        let word = |word: &str| {
            let lower = word.to_lowercase();
            let found = regex(word).map(Word::Text).or_else(|| figure(&lower)).or_else(|| named(word));
            found.unwrap_or(Word::Text(Like::Contains(lower)))
        };
        Self { words: typed.split_whitespace().map(word).collect() }
    }

    /// Its words, one by one, and whether each asks for a figure.
    pub(super) fn words(&self) -> impl Iterator<Item = (Self, bool)> {
        let is_figure = |word: &Word| matches!(word, Word::Figure(..));
        self.words.iter().map(move |word| (Self { words: vec![word.clone()] }, is_figure(word)))
    }

    /// Whether it has no words.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a row fits.
    pub(super) fn fits(&self, row: &impl Row) -> bool {
        self.words.iter().all(|word| match word {
            Word::Text(like) => row.any(&|text| like.fits(text)),
            Word::Named(name, like) => row.is(*name, &|text| like.fits(text)),
            Word::Network(net, port) => {
                row.reaches(&|addr, own| net.contains(&addr) && port.is_none_or(|port| port == own))
            }
            Word::Figure(field, limit, wanted) => row.figure(field).is_some_and(|figure| match limit {
                Limit::More => figure > *wanted,
                Limit::Less => figure < *wanted,
                Limit::Equal => figure == *wanted,
                Limit::AtLeast => figure >= *wanted,
                Limit::AtMost => figure <= *wanted,
            }),
        })
    }
}

/// Whether any name of that kind passes that says where a process runs.
pub(super) fn runs_in(name: Name, of: RunsIn<'_>, passes: Test<'_>) -> bool {
    let has = |text: Option<&str>| text.is_some_and(|text| passes(&text::clean(text)));
    let shown = |get: fn(&ProcessFacts) -> &Option<String>| of.facts.and_then(|facts| get(facts).as_deref());
    match name {
        Name::Cgroup => label::cgroup(of).is_some_and(|text| passes(&text)) || has(shown(|facts| &facts.container)),
        Name::Container => has(of.container().as_deref()) || has(shown(|facts| &facts.container)),
        Name::Image => has(of.image().as_deref()),
        Name::Pod => has(of.pod().as_deref()) || has(shown(|facts| &facts.pod_uid)),
        Name::Workload => has(of.workload().as_deref()),
        _ => false,
    }
}

/// The substates that a row's TIME_WAIT sockets have.
pub(super) fn states(counts: &Counts, passes: Test<'_>) -> bool {
    counts.time_wait_live > counts.fin_wait2_live && passes("TIME_WAIT")
        || counts.fin_wait2_live > 0 && passes("FIN_WAIT2")
}

/// A regular expression between slashes. One that is still being typed, or is wrong, is a text.
fn regex(word: &str) -> Option<Like> {
    let pattern = word.strip_prefix('/')?.strip_suffix('/').filter(|pattern| !pattern.is_empty())?;
    RegexBuilder::new(pattern).case_insensitive(true).size_limit(REGEX_BYTES).build().ok().map(Like::Matches)
}

/// Largest regular expression, compiled, in bytes.
const REGEX_BYTES: usize = 1 << 20;

fn named(word: &str) -> Option<Word> {
    let (name, text) = word.split_once(':')?;
    let name: Name = name.to_lowercase().parse().ok()?;
    if name == Name::Dest
        && text.contains('/')
        && let Ok((net, port)) = destination(text)
    {
        return Some(Word::Network(net, port));
    }
    let like = regex(text).unwrap_or_else(|| match name {
        Name::Pid => Like::Is(text.to_owned()),
        Name::State => Like::Contains(text.to_lowercase().replace('-', "_")),
        _ => Like::Contains(text.to_lowercase()),
    });
    Some(Word::Named(name, like))
}

fn figure(word: &str) -> Option<Word> {
    let at = word.find(['>', '<', '='])?;
    let (name, rest) = word.split_at(at);
    let limits =
        [(">=", Limit::AtLeast), ("<=", Limit::AtMost), (">", Limit::More), ("<", Limit::Less), ("=", Limit::Equal)];
    let (limit, wanted) = limits.into_iter().find_map(|(sign, limit)| Some((limit, rest.strip_prefix(sign)?)))?;
    let field = named_figure(name)?;
    let wanted = match field.name {
        // Microseconds.
        "lifetime_ms" => time(wanted).ok()?.as_secs_f64() * 1e6,
        // Thousands may be separated as they are shown.
        _ => wanted.replace(',', "").parse().ok()?,
    };
    Some(Word::Figure(field, limit, wanted))
}

/// A figure by its name, or by its heading without blanks.
fn named_figure(name: &str) -> Option<&'static Field> {
    let is_it = |field: &&Field| field.heading.to_lowercase().replace(' ', "") == name;
    Field::of(name).or_else(|| FIELDS.iter().find(is_it))
}

/// A word that looks like a figure with a limit, and is none: the name of the figure that does not exist.
pub(super) fn unknown_figure(typed: &str) -> Option<&str> {
    let looks_like = |word: &&str| {
        word.split_once(['>', '<']).is_some_and(|(name, rest)| {
            let number = rest.trim_start_matches('=');
            !number.is_empty()
                && number.chars().all(|it| it.is_ascii_digit())
                && named_figure(&name.to_lowercase()).is_none()
        })
    };
    let word = typed.split_whitespace().find(looks_like)?;
    word.split(['>', '<']).next()
}

/// Ways to complete what was typed, and how many bytes of its end they replace: names of a kind, or its values in the rows.
/// `values` returns the values of a kind.
pub(super) fn completions(typed: &str, values: impl FnOnce(Name) -> Vec<String>) -> (usize, Vec<String>) {
    let word = typed.rsplit(char::is_whitespace).next().unwrap_or_default();
    let (text, mut all) = match word.split_once(':') {
        Some((name, text)) => match name.to_lowercase().parse() {
            // A value is a word.
            Ok(name) => (text, values(name).iter().filter_map(|value| first_word(value)).collect()),
            Err(_) => return (0, Vec::new()),
        },
        None => {
            let names = Name::VARIANTS.iter().map(|name| format!("{name}:"));
            let figures = FIELDS.iter().filter(|field| field.width > 0).map(|field| format!("{}>", field.short));
            (word, names.chain(figures).collect::<Vec<_>>())
        }
    };
    let start = text.to_lowercase();
    all.retain(|one| one.to_lowercase().starts_with(&start) && one.len() > text.len());
    all.sort();
    all.dedup();
    (text.len(), all)
}

fn first_word(value: &str) -> Option<String> {
    value.split_whitespace().next().map(str::to_owned)
}

/// What all of these begin with.
pub(super) fn common(all: &[String]) -> &str {
    let Some((first, others)) = all.split_first() else { return "" };
    let is_common =
        |length: usize| others.iter().all(|other| other.as_bytes().get(..length) == Some(&first.as_bytes()[..length]));
    let lengths = first.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let length = lengths.take_while(|length| is_common(*length)).last().unwrap_or(0);
    &first[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nginx;

    impl Row for Nginx {
        fn any(&self, passes: Test<'_>) -> bool {
            passes("nginx -g daemon")
        }
        fn is(&self, name: Name, passes: Test<'_>) -> bool {
            match name {
                Name::Program => passes("nginx"),
                Name::Pid => passes("100"),
                Name::State => passes("TIME_WAIT"),
                _ => false,
            }
        }
        fn reaches(&self, passes: &dyn Fn(IpAddr, u16) -> bool) -> bool {
            passes([10, 1, 2, 3].into(), 443)
        }
        fn figure(&self, field: &Field) -> Option<f64> {
            ["time_wait_created", "created_per_s"].contains(&field.name).then_some(1500.0)
        }
    }

    #[test]
    fn all_words_must_fit() {
        for typed in [
            "",
            "NGINX",
            "daemon nginx",
            "program:ngi",
            "pid:100",
            "created>1,000",
            "created=1500 program:nginx",
            "created<2e3",
            "created>=1500 created<=1,500 created/s<=1500",
            "/^nginx/ program:/X$/",
            "dest:10.0.0.0/8",
            "dest:10.1.0.0/16:443 state:time-wait",
        ] {
            assert!(Filter::of(typed).fits(&Nginx), "{typed}");
        }
        for typed in [
            "apache",
            "nginx apache",
            "program:apache",
            "pid:10",
            "created>1500",
            "live>0",
            "user:root",
            "/^daemon/",
            "dest:10.0.0.0/8:80",
            "dest:fd00::/8",
            "state:fin",
            "created>=1501",
        ] {
            assert!(!Filter::of(typed).fits(&Nginx), "{typed}");
        }
        // Neither a name nor a figure.
        for typed in ["10.0.1.2:5432", "=cmd", "a>b", "created>many", "/", "//", "/(/", "/usr/bin"] {
            let words = Filter::of(typed).words;
            assert!(matches!(&words[..], [Word::Text(Like::Contains(text))] if text == typed), "{typed}");
        }
    }

    #[test]
    fn figures_that_do_not_exist_are_named() {
        for (typed, name) in [("ports>80", Some("ports")), ("x 1stfins>=1", Some("1stfins"))] {
            assert_eq!(unknown_figure(typed), name, "{typed}");
        }
        for typed in ["created>1", "1stfin>1", "created/s>5", "a>b", "10.0.0.1:80", "->", "a->1b"] {
            assert_eq!(unknown_figure(typed), None, "{typed}");
        }
        assert!(matches!(Filter::of("life>5ms").words[..], [Word::Figure(_, Limit::More, 5000.0)]));
    }

    #[test]
    fn words_are_completed() {
        let values = |name| match name {
            Name::Program => vec!["redis-cli".to_owned(), "redis-server".to_owned(), "nginx worker".to_owned()],
            _ => Vec::new(),
        };
        for (typed, expected) in [
            ("pr", vec!["program:"]),
            ("created>3 p", vec!["parent:", "pid:", "pod:", "program:"]),
            ("program:re", vec!["redis-cli", "redis-server"]),
            ("program:N", vec!["nginx"]),
            ("program:redis-cli", vec![]),
            ("user:x", vec![]),
            ("10.0.0.1:8", vec![]),
        ] {
            assert_eq!(completions(typed, values).1, expected, "{typed}");
        }
        let (length, all) = completions("a program:re", values);
        assert_eq!((length, common(&all)), (2, "redis-"));
        assert_eq!(common(&["ä".to_owned(), "ö".to_owned()]), "");
        // Each figure of a live table can be completed.
        assert!(completions("", values).1.contains(&"created>".to_owned()));
    }
}
