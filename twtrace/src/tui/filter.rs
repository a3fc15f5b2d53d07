//! The filter of a list: words that must all fit. A word is a text that a row contains, a name with what it contains
//! (`program:redis`), or a figure with a limit (`created>100`).

use twtrace_core::counts::Field;

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
    /// Address and port of a destination.
    Dest,
    /// Network namespace.
    Netns,
}

/// How a figure compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    More,
    Less,
    Equal,
}

#[derive(Clone, Debug)]
enum Word {
    Text(String),
    Named(Name, String),
    Figure(&'static Field, Limit, f64),
}

/// All words.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    words: Vec<Word>,
}

/// What a row says to one word. Texts are in lower case.
pub(super) trait Row {
    /// It contains the text somewhere.
    fn has(&self, text: &str) -> bool;
    /// Its name of that kind contains the text.
    fn is(&self, name: Name, text: &str) -> bool;
    /// The value of a figure, if it has one.
    fn figure(&self, field: &Field) -> Option<f64>;
}

impl Filter {
    /// As typed. What is neither a known name nor a known figure is text, as `10.0.1.2:5432`.
    pub(super) fn of(typed: &str) -> Self {
        let word = |word: &str| figure(word).or_else(|| named(word)).unwrap_or_else(|| Word::Text(word.to_owned()));
        Self { words: typed.to_lowercase().split_whitespace().map(word).collect() }
    }

    /// Whether a row fits.
    pub(super) fn fits(&self, row: &impl Row) -> bool {
        self.words.iter().all(|word| match word {
            Word::Text(text) => row.has(text),
            Word::Named(name, text) => row.is(*name, text),
            Word::Figure(field, limit, wanted) => row.figure(field).is_some_and(|figure| match limit {
                Limit::More => figure > *wanted,
                Limit::Less => figure < *wanted,
                Limit::Equal => figure == *wanted,
            }),
        })
    }
}

fn named(word: &str) -> Option<Word> {
    let (name, text) = word.split_once(':')?;
    Some(Word::Named(name.parse().ok()?, text.to_owned()))
}

fn figure(word: &str) -> Option<Word> {
    let at = word.find(['>', '<', '='])?;
    let (name, rest) = word.split_at(at);
    let limit = match rest.as_bytes().first()? {
        b'>' => Limit::More,
        b'<' => Limit::Less,
        _ => Limit::Equal,
    };
    // Thousands may be separated as they are shown.
    let wanted = rest.get(1..)?.replace(',', "").parse().ok()?;
    Some(Word::Figure(Field::of(name)?, limit, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nginx;

    impl Row for Nginx {
        fn has(&self, text: &str) -> bool {
            "nginx -g daemon".contains(text)
        }
        fn is(&self, name: Name, text: &str) -> bool {
            match name {
                Name::Program => "nginx".contains(text),
                Name::Pid => text == "100",
                _ => false,
            }
        }
        fn figure(&self, field: &Field) -> Option<f64> {
            (field.name == "time_wait_created").then_some(1500.0)
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
        ] {
            assert!(Filter::of(typed).fits(&Nginx), "{typed}");
        }
        for typed in ["apache", "nginx apache", "program:apache", "pid:10", "created>1500", "live>0", "user:root"] {
            assert!(!Filter::of(typed).fits(&Nginx), "{typed}");
        }
        // Neither a name nor a figure.
        for typed in ["10.0.1.2:5432", "=cmd", "a>b", "created>many"] {
            assert!(matches!(&Filter::of(typed).words[..], [Word::Text(text)] if text == typed), "{typed}");
        }
    }
}
