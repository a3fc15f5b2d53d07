//! Settings that may be changed.

use std::fmt;
use std::str::FromStr;

/// One setting that is different from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `net.ipv4.tcp_tw_reuse`: 0, 1, 2.
    Reuse(u8),
    /// `net.ipv4.ip_local_port_range`, both inclusive.
    Range(u16, u16),
    /// `net.ipv4.tcp_max_tw_buckets`.
    Buckets(u64),
    /// Each process uses this many source addresses in turn for each destination.
    Addresses(u16),
    /// Each process keeps up to this many idle connections to each destination.
    Pool(u32),
    /// A connection carries up to this many requests.
    KeepAlive(u32),
    /// Each process has at most this many connections to each destination at a time; further requests wait.
    Limit(u32),
}

/// Names and forms of all changes.
const FORMS: &str =
    "tcp_tw_reuse=1, range=1024-65535, tcp_max_tw_buckets=N, addresses=N, pool=N, keep-alive=N, limit=N";

/// Why a text is no [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

impl FromStr for Change {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(ParseError(format!("a change is a name and a value: {FORMS}")));
        };
        let value = value.trim();
        let wrong = |needs: &str| ParseError(format!("{} needs {needs}", name.trim()));
        let number = |least: u32, needs: &str| {
            value.parse().ok().filter(|number: &u32| *number >= least).ok_or_else(|| wrong(needs))
        };
        match name.trim().rsplit('.').next().unwrap_or_default() {
            "tcp_tw_reuse" => match value {
                "0" => Ok(Self::Reuse(0)),
                "1" => Ok(Self::Reuse(1)),
                "2" => Ok(Self::Reuse(2)),
                _ => Err(wrong("0, 1 or 2")),
            },
            "range" | "ip_local_port_range" => {
                let (low, high) = value.split_once(['-', ' ', '\t']).ok_or_else(|| wrong("two ports: 1024-65535"))?;
                match (low.trim().parse(), high.trim().parse()) {
                    (Ok(low), Ok(high)) if 0 < low && low <= high => Ok(Self::Range(low, high)),
                    _ => Err(wrong("two ports, the lower one first: 1024-65535")),
                }
            }
            "tcp_max_tw_buckets" => value.parse().map(Self::Buckets).map_err(|_| wrong("a number")),
            "addresses" => match value.parse() {
                Ok(addresses @ 1..) => Ok(Self::Addresses(addresses)),
                _ => Err(wrong("a number of source addresses from 1 to 65535")),
            },
            "pool" => number(1, "a number of connections, at least 1").map(Self::Pool),
            "keep-alive" => number(2, "a number of requests, at least 2").map(Self::KeepAlive),
            "limit" => number(1, "a number of connections, at least 1").map(Self::Limit),
            _ => Err(ParseError(format!("there is no setting {} to change: {FORMS}", name.trim()))),
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reuse(mode) => write!(f, "tcp_tw_reuse={mode}"),
            Self::Range(low, high) => write!(f, "range={low}-{high}"),
            Self::Buckets(buckets) => write!(f, "tcp_max_tw_buckets={buckets}"),
            Self::Addresses(addresses) => write!(f, "addresses={addresses}"),
            Self::Pool(size) => write!(f, "pool={size}"),
            Self::KeepAlive(requests) => write!(f, "keep-alive={requests}"),
            Self::Limit(connections) => write!(f, "limit={connections}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written() {
        for text in [
            "tcp_tw_reuse=1",
            "range=1024-65535",
            "tcp_max_tw_buckets=1000",
            "addresses=4",
            "pool=20",
            "keep-alive=100",
            "limit=50",
        ] {
            assert_eq!(text.parse::<Change>().map(|change| change.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("net.ipv4.tcp_tw_reuse=1".parse(), Ok(Change::Reuse(1)));
        assert_eq!("net.ipv4.ip_local_port_range=1024 65535".parse(), Ok(Change::Range(1024, 65_535)));
    }

    #[test]
    fn others_are_refused_with_what_is_expected() {
        for (text, says) in [
            ("pool", "a name and a value"),
            ("pool=0", "pool needs a number of connections"),
            ("keep-alive=1", "keep-alive needs a number of requests, at least 2"),
            ("range=5-1", "range needs two ports"),
            ("range=1024", "range needs two ports"),
            ("tcp_tw_reuse=3", "tcp_tw_reuse needs 0, 1 or 2"),
            ("addresses=0", "addresses needs"),
            ("tcp_fin_timeout=5", "no setting tcp_fin_timeout"),
        ] {
            let error = text.parse::<Change>().map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(says)), "{text}: {error:?}");
        }
    }
}
