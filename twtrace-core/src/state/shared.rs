//! TIME_WAIT sockets that their cookie does not identify: several have the same one, or the connection had none.
//!
//! A socket that is disconnected (connect(2) with AF_UNSPEC) and connects again keeps its cookie, and each TIME_WAIT socket
//! that it leaves has a copy (`inet_twsk_alloc`).

use crate::event::Tuple;
use crate::table::Map;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use std::hash::BuildHasher;

/// TIME_WAIT sockets beyond the first of their cookie. When full, a further one replaces the one before it, as if that had
/// ended.
const SOCKETS: usize = 1 << 16;

/// TIME_WAIT sockets whose connection had no cookie. When full, the kernel's list shows further ones as unattributed.
const WITHOUT: usize = 1 << 16;

/// The sockets of one cookie.
#[derive(Clone, Debug)]
struct Sockets {
    /// The one that has the cookie as its identity.
    first: Tuple,
    /// Identities of the others.
    others: Vec<u64>,
    /// The last census that contained all of them that were alive.
    census: u32,
}

/// Sockets by their cookies, where these have more than one.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCookies {
    by_cookie: Map<u64, Sockets>,
    /// Cookies of the sockets other than the first, by their identities.
    cookies: Map<u64, u64>,
    /// Identities of those without a cookie. The kernel makes one for each when it is asked for it (`sock_gen_cookie`),
    /// which no record has.
    without: HashSet<u64, FixedState>,
}

/// Whether two TIME_WAIT sockets with one cookie are the same. The namespace is left out: of one it may not be known.
pub(crate) fn is_same(one: &Tuple, other: &Tuple) -> bool {
    let ends = |tuple: &Tuple| (tuple.local_port, tuple.remote_port, tuple.local_addr, tuple.remote_addr);
    ends(one) == ends(other)
}

impl SharedCookies {
    /// What identifies a socket with that cookie, unless the cookie does.
    pub(crate) fn identity(&self, cookie: u64, tuple: &Tuple) -> Option<u64> {
        if !self.without.is_empty() {
            let identity = identity_without(tuple);
            if self.without.contains(&identity) {
                return Some(identity);
            }
        }
        let sockets = self.by_cookie.get(&cookie)?;
        (!is_same(&sockets.first, tuple)).then(|| identity(cookie, tuple))
    }

    /// The identity of a TIME_WAIT socket without a cookie. `None` when there is no room.
    pub(crate) fn add_without(&mut self, tuple: &Tuple) -> Option<u64> {
        let identity = identity_without(tuple);
        (self.without.len() < WITHOUT).then(|| self.without.insert(identity));
        self.without.contains(&identity).then_some(identity)
    }

    /// A connection ends with these addresses: the socket without a cookie that had them is gone.
    pub(crate) fn taken_again(&mut self, tuple: &Tuple) {
        if !self.without.is_empty() {
            self.without.remove(&identity_without(tuple));
        }
    }

    /// Whether the identity is that of a socket without a cookie.
    pub(crate) fn is_without(&self, identity: u64) -> bool {
        !self.without.is_empty() && self.without.contains(&identity)
    }

    /// The socket that has the cookie as its identity, if there are others.
    pub(crate) fn first(&self, cookie: u64) -> Option<Tuple> {
        self.by_cookie.get(&cookie).map(|sockets| sockets.first)
    }

    /// The identity of a TIME_WAIT socket that is tracked from now on, beside one with that cookie that may be alive. When
    /// there is no room, its cookie.
    pub(crate) fn beside(&mut self, cookie: u64, alive: Option<Tuple>, tuple: &Tuple) -> u64 {
        let first = self.first(cookie).or(alive).filter(|first| !is_same(first, tuple));
        first.and_then(|first| self.add(cookie, &first, tuple)).unwrap_or(cookie)
    }

    /// A socket has the cookie of another one, which is `first`. Returns its identity; `None` when there is no room.
    fn add(&mut self, cookie: u64, first: &Tuple, tuple: &Tuple) -> Option<u64> {
        let identity = identity(cookie, tuple);
        let sockets =
            self.by_cookie.entry(cookie).or_insert_with(|| Sockets { first: *first, others: Vec::new(), census: 0 });
        if !self.cookies.contains_key(&identity) {
            if self.cookies.len() >= SOCKETS {
                return None;
            }
            self.cookies.insert(identity, cookie);
            sockets.others.push(identity);
        }
        Some(identity)
    }

    /// A census contains a socket with that cookie that an earlier one contained: then it contains all of them, changed or
    /// not.
    pub(crate) fn listed(&mut self, cookie: u64, census: u32) {
        if let Some(sockets) = self.by_cookie.get_mut(&cookie) {
            sockets.census = census;
        }
    }

    /// Identities of the sockets that must be in a census of changes if they are alive.
    pub(crate) fn in_census(&self, census: u32) -> impl Iterator<Item = u64> {
        let sockets = self.by_cookie.iter().filter(move |(_, sockets)| sockets.census == census);
        sockets.flat_map(|(cookie, sockets)| sockets.others.iter().chain([cookie])).copied()
    }

    /// Identities of all sockets with that cookie but the first.
    pub(crate) fn others(&self, cookie: u64) -> &[u64] {
        self.by_cookie.get(&cookie).map_or(&[], |sockets| &sockets.others)
    }

    /// The cookie of a socket with that identity.
    pub(crate) fn cookie(&self, identity: u64) -> u64 {
        self.cookies.get(&identity).copied().unwrap_or(identity)
    }

    /// Forgets sockets that are not alive. The first of a cookie is kept for as long as there are others.
    pub(crate) fn keep(&mut self, is_alive: impl Fn(u64) -> bool) {
        let Self { by_cookie, cookies, without } = self;
        without.retain(|identity| is_alive(*identity));
        by_cookie.retain(|_, sockets| {
            sockets.others.retain(|identity| {
                let is_kept = is_alive(*identity);
                if !is_kept {
                    cookies.remove(identity);
                }
                is_kept
            });
            !sockets.others.is_empty()
        });
    }
}

/// Not a number that the kernel gives: cookies count up from 1.
fn identity(cookie: u64, tuple: &Tuple) -> u64 {
    let Tuple { local_addr, local_port, remote_addr, remote_port, .. } = *tuple;
    FixedState::default().hash_one((cookie, local_addr, local_port, remote_addr, remote_port)) | 1 << 63
}

/// Of a socket without a cookie.
fn identity_without(tuple: &Tuple) -> u64 {
    identity(u64::from(tuple.netns), tuple)
}
