//! Splits arguments into options, their values and operands.

/// Which options take a value. All others are taken for flags.
pub(super) struct Options {
    /// Options of one letter, in the notation of getopt: `a:` takes the rest of the word or the next word, `a::` only
    /// the rest of the word. Empty for programs whose words after one dash are not groups of letters.
    letters: &'static str,
    /// Options of a whole word that take the next word, unless their value follows an equals sign.
    valued: &'static [&'static str],
    /// A word that begins with a plus is an option.
    plus: bool,
}

impl Options {
    /// Letters and words that take a value.
    pub(super) const fn new(letters: &'static str, valued: &'static [&'static str]) -> Self {
        Self { letters, valued, plus: false }
    }

    /// The same, and words that begin with a plus are options, as in shells.
    pub(super) const fn with_plus(letters: &'static str, valued: &'static [&'static str]) -> Self {
        Self { letters, valued, plus: true }
    }

    fn arity(&self, letter: char) -> Arity {
        let Some((_, after)) = self.letters.split_once(letter).filter(|_| letter != ':') else { return Arity::Flag };
        match (after.starts_with(':'), after.starts_with("::")) {
            (_, true) => Arity::Attached,
            (true, false) => Arity::Valued,
            (false, false) => Arity::Flag,
        }
    }
}

enum Arity {
    Flag,
    Valued,
    Attached,
}

/// Name of an option.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    /// One letter, perhaps of a group.
    Letter(char),
    /// A whole word.
    Word(&'a str),
}

impl Name<'_> {
    /// Whether this is the option that is written in this way, such as `-c` or `--eval`.
    pub(super) fn is(self, written: &str) -> bool {
        match self {
            Self::Letter(letter) => written.strip_prefix('-').is_some_and(|rest| rest.chars().eq([letter])),
            Self::Word(word) => word == written,
        }
    }
}

/// One step of a [`Scan`].
pub(super) enum Arg<'a> {
    /// An option and its value.
    Option(Name<'a>, Option<&'a str>),
    /// The index of a word that is not an option.
    Operand(usize),
}

/// Iterates over arguments.
pub(super) struct Scan<'a> {
    options: &'a Options,
    words: &'a [&'a str],
    next: usize,
    /// Letters of a group that are not yet consumed.
    group: &'a str,
    /// `--` was seen.
    ended: bool,
}

impl<'a> Scan<'a> {
    /// Starts at the first of these words.
    pub(super) fn new(options: &'a Options, words: &'a [&'a str]) -> Self {
        Self { options, words, next: 0, group: "", ended: false }
    }

    /// Words that are not yet consumed.
    pub(super) fn rest(&self) -> &'a [&'a str] {
        self.words.get(self.next..).unwrap_or_default()
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    fn letter(&mut self) -> Option<Arg<'a>> {
        let mut letters = self.group.chars();
        let letter = letters.next()?;
        let rest = letters.as_str();
        let attached = Some(rest).filter(|rest| !rest.is_empty());
        let (value, group) = match self.options.arity(letter) {
            Arity::Flag => (None, rest),
            Arity::Valued => (attached.or_else(|| self.word()), ""),
            Arity::Attached => (attached, ""),
        };
        self.group = group;
        Some(Arg::Option(Name::Letter(letter), value))
    }

    fn whole(&mut self, word: &'a str) -> Arg<'a> {
        if self.options.valued.contains(&word) {
            return Arg::Option(Name::Word(word), self.word());
        }
        match word.split_once('=') {
            Some((name, value)) => Arg::Option(Name::Word(name), Some(value).filter(|value| !value.is_empty())),
            None => Arg::Option(Name::Word(word), None),
        }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        if let Some(letter) = self.letter() {
            return Some(letter);
        }
        let at = self.next;
        let word = self.word()?;
        if self.ended {
            return Some(Arg::Operand(at));
        }
        if word == "--" {
            self.ended = true;
            return self.next();
        }
        let short = word.strip_prefix('-').or_else(|| word.strip_prefix('+').filter(|_| self.options.plus));
        match short {
            // A dash alone stands for the standard input.
            None | Some("") => Some(Arg::Operand(at)),
            Some(letters) => {
                if letters.starts_with('-') || self.options.letters.is_empty() || self.options.valued.contains(&word) {
                    return Some(self.whole(word));
                }
                self.group = letters;
                self.letter()
            }
        }
    }
}

/// The first operand, and the words after it.
pub(super) fn operand<'a>(options: &'a Options, words: &'a [&'a str]) -> Option<(&'a str, &'a [&'a str])> {
    let at = Scan::new(options, words).find_map(|arg| match arg {
        Arg::Operand(at) => Some(at),
        Arg::Option(..) => None,
    })?;
    Some((words.get(at)?, words.get(at + 1..)?))
}
