//! Who may ask: a token, and the name that the client thinks it talks to.

use anyhow::{Context as _, bail};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, COOKIE, HOST};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::path::Path;
use subtle::ConstantTimeEq as _;

/// Shortest token. 16 random characters cannot be guessed over a network.
const SHORTEST: usize = 16;

/// Longest token, so that it fits into a header.
const LONGEST: usize = 512;

/// The cookie that carries the token of a browser, which cannot set a header for a page.
pub(crate) const TOKEN_COOKIE: &str = "twtrace-token";

/// What a client must present.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The hash of the token; `None` when there is none.
    token: Option<[u8; 32]>,
    /// Only names of this host's loopback addresses are accepted: a page of another site that a browser on this host shows
    /// could have its name resolve to 127.0.0.1.
    only_loopback_names: bool,
}

/// Hashed, so that the comparison takes the same time for every length.
fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Access {
    /// With the token in this file: its first line.
    ///
    /// # Errors
    /// It cannot be read, or is no token.
    pub(crate) fn with_token(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the token in {}", path.display()))?;
        let token = text.lines().next().unwrap_or_default().trim();
        let is_token = token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b'"');
        if !is_token || !(SHORTEST..=LONGEST).contains(&token.len()) {
            bail!(
                "the token in {} must be {SHORTEST} to {LONGEST} letters, digits or signs: try `openssl rand -hex 32`",
                path.display()
            );
        }
        Ok(Self { token: Some(hash(token.as_bytes())), only_loopback_names: false })
    }

    /// The same for a loopback address: clients must call it that.
    pub(crate) fn for_loopback(self) -> Self {
        Self { only_loopback_names: true, ..self }
    }

    /// Whether a token is needed.
    pub(crate) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the token.
    pub(crate) fn is_token(&self, presented: &str) -> bool {
        self.token.as_ref().is_some_and(|token| token.ct_eq(&hash(presented.as_bytes())).into())
    }

    /// Whether the client has presented the token, if there is one.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        !self.needs_token() || presented(headers).is_some_and(|presented| self.is_token(presented))
    }

    /// Whether the client means this server.
    pub(crate) fn knows_name(&self, headers: &HeaderMap) -> bool {
        if !self.only_loopback_names {
            return true;
        }
        let mut names = headers.get_all(HOST).iter();
        let (Some(name), None) = (names.next(), names.next()) else { return false };
        name.to_str().is_ok_and(is_loopback_name)
    }
}

/// Whether a `Host` header names a loopback address of this host.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token of a request: in its header, or in the cookie of a browser.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearer.or_else(|| {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == TOKEN_COOKIE).map(|(_, token)| token)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use std::io::Write as _;

    fn access(token: &str) -> anyhow::Result<Access> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{token}").unwrap();
        Access::with_token(file.path())
    }

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_opens() {
        let access = access("0123456789abcdef").unwrap();
        for (name, value, allows) in [
            (AUTHORIZATION, "Bearer 0123456789abcdef", true),
            (AUTHORIZATION, "bearer 0123456789abcdef", true),
            (AUTHORIZATION, "Bearer 0123456789abcde", false),
            (AUTHORIZATION, "Bearer ", false),
            (AUTHORIZATION, "0123456789abcdef", false),
            (AUTHORIZATION, "Basic 0123456789abcdef", false),
            (COOKIE, "a=b; twtrace-token=0123456789abcdef", true),
            (COOKIE, "twtrace-token=", false),
            (HOST, "localhost", false),
        ] {
            assert_eq!(access.allows(&headers(name, value)), allows, "{value}");
        }
        assert!(!access.allows(&HeaderMap::new()) && Access::default().allows(&HeaderMap::new()));
    }

    #[test]
    fn token_that_can_be_guessed_is_refused() {
        for token in
            ["", "short", "0123456789abcde", "with spaces in it 0123", "0123456789abcdef;x", "0123456789abcdefé"]
        {
            assert!(access(token).unwrap_err().to_string().contains("openssl"), "{token}");
        }
    }

    #[test]
    fn name_of_another_site_is_refused_on_loopback() {
        let access = Access::default().for_loopback();
        for (host, knows) in [
            ("localhost:9790", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9790", true),
            ("[::1]:9790", true),
            ("evil.example:9790", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(access.knows_name(&headers(HOST, host)), knows, "{host}");
        }
        assert!(!access.knows_name(&HeaderMap::new()));
    }
}
