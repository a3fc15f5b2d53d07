//! The text format of metrics, in both dialects: OpenMetrics 1.0, and that of Prometheus before it (0.0.4).

use std::fmt::Write as _;

/// A dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `text/plain; version=0.0.4`.
    #[default]
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Dialect {
    /// The one that a client prefers by its `Accept` header. A client that does not name OpenMetrics gets the older one, which
    /// every one reads.
    pub fn of_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows. The names of its samples end in `_total`.
    Counter,
    /// It may be anything.
    Gauge,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A page of metrics.
pub(super) struct Exposition {
    dialect: Dialect,
    text: String,
    /// The end of the names of samples.
    suffix: &'static str,
    family: String,
}

impl Exposition {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::new(), suffix: "", family: String::new() }
    }

    /// Begins a family. All of its samples follow at once.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.family);
        self.suffix = if kind == Kind::Counter { "_total" } else { "" };
        let suffix = if self.dialect == Dialect::OpenMetrics { "" } else { self.suffix };
        let _ = write!(self.text, "# HELP {name}{suffix} ");
        escape(help.trim(), self.dialect == Dialect::OpenMetrics, &mut self.text);
        let _ = writeln!(self.text, "\n# TYPE {name}{suffix} {}", kind.name());
    }

    /// A sample of the family.
    pub(super) fn sample<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>, value: f64) {
        let _ = write!(self.text, "{}{}", self.family, self.suffix);
        let mut is_first = true;
        for (name, value) in labels {
            let _ = write!(self.text, "{}{name}=\"", if is_first { "{" } else { "," });
            escape(value, true, &mut self.text);
            self.text.push('"');
            is_first = false;
        }
        if !is_first {
            self.text.push('}');
        }
        match value {
            value if value == f64::INFINITY => self.text.push_str(" +Inf\n"),
            value => {
                let _ = writeln!(self.text, " {value}");
            }
        }
    }

    /// A family with one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample([], value);
    }

    pub(super) fn finish(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// What the format gives a meaning. Quotes have one in labels, and in the help of OpenMetrics.
fn escape(text: &str, quotes: bool, into: &mut String) {
    for char in text.chars() {
        match char {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            char => into.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(dialect: Dialect) -> String {
        let mut page = Exposition::new(dialect);
        page.family("twtrace_a", Kind::Counter, "What \"a\" counts.\n");
        page.sample([("name", "x\"\\\ny"), ("other", "")], 3.0);
        page.single("twtrace_b", Kind::Gauge, "B.", f64::INFINITY);
        page.finish()
    }

    #[test]
    fn both_dialects_have_their_form() {
        let open = "# HELP twtrace_a What \\\"a\\\" counts.\n# TYPE twtrace_a counter\n\
                    twtrace_a_total{name=\"x\\\"\\\\\\ny\",other=\"\"} 3\n\
                    # HELP twtrace_b B.\n# TYPE twtrace_b gauge\ntwtrace_b +Inf\n# EOF\n";
        assert_eq!(page(Dialect::OpenMetrics), open);
        let old = "# HELP twtrace_a_total What \"a\" counts.\n# TYPE twtrace_a_total counter\n\
                   twtrace_a_total{name=\"x\\\"\\\\\\ny\",other=\"\"} 3\n\
                   # HELP twtrace_b B.\n# TYPE twtrace_b gauge\ntwtrace_b +Inf\n";
        assert_eq!(page(Dialect::Prometheus), old);
    }

    #[test]
    fn client_gets_the_dialect_that_it_names() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Dialect::of_accept(prometheus), Dialect::OpenMetrics);
        assert_eq!(Dialect::of_accept("*/*"), Dialect::Prometheus);
    }
}
