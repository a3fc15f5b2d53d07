//! Where an agent answers, as a user writes it.

use crate::agent::listen::Address;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the agent listens by default.
pub(crate) const DEFAULT: &str = "127.0.0.1:9790";

/// An agent to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host, by name or address, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Over TLS.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Whether what is sent there stays on this host.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }

    /// The value of the header `Host`.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return match text.parse()? {
                Address::Unix(path) => Ok(Self::Unix(path)),
                Address::Tcp(_) => Err("expected unix:/PATH".to_owned()),
            };
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(expected()),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(expected)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(expected());
        }
        let port = port.parse().map_err(|_| expected())?;
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }
}

fn expected() -> String {
    format!("expected {DEFAULT}, https://HOST:PORT or unix:/PATH, as the agent said when it started")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls: true, .. } => write!(f, "https://{}", self.authority()),
            Self::Tcp { tls: false, .. } => write!(f, "{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn targets_are_read_as_agents_say_where_they_answer() {
        for (text, shown, is_local) in [
            ("127.0.0.1:9790", "127.0.0.1:9790", true),
            ("http://127.0.0.1:9790/", "127.0.0.1:9790", true),
            ("https://[::1]:9790/", "https://[::1]:9790", true),
            ("localhost:80", "localhost:80", true),
            ("https://web-1.example:443", "https://web-1.example:443", false),
            ("unix:/run/twtrace.sock", "unix:/run/twtrace.sock", true),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.to_string().as_str(), target.is_local()), (shown, is_local), "{text}");
        }
        for text in ["", "9790", "web1", "ftp://a:1", "unix:relative", "a b:1", "a:70000", "a\r\n:1", "https://:1"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
