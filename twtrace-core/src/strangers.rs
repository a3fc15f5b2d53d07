//! TIME_WAIT sockets that one process closed and an unrelated one opened: a proxy, a pool of descriptors, a supervisor that
//! passes sockets on. The closer's row must say so.

use crate::event::Owner;

/// Sockets that others opened.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Strangers {
    /// An opener: of more than half of them if there is such a one, else one of those with the most.
    pub opener: Owner,
    /// TIME_WAIT sockets that the row's process closed and an unrelated process opened.
    pub sockets: u64,
    /// How many more of them are the opener's than others' (Boyer and Moore's majority vote).
    votes: u64,
}

impl Strangers {
    fn of(opener: Owner) -> Self {
        Self { opener, sockets: 1, votes: 1 }
    }

    /// Adds a socket that `opener` opened and `closer` closed, if the two have nothing to do with each other.
    pub(crate) fn add(all: &mut Option<Box<Self>>, opener: &Owner, closer: &Owner) {
        if !are_strangers(opener, closer) {
            return;
        }
        match all {
            Some(known) => known.vote(&Self::of(*opener)),
            None => *all = Some(Box::new(Self::of(*opener))),
        }
    }

    pub(crate) fn absorb(all: &mut Option<Box<Self>>, other: Option<&Self>) {
        match (&mut *all, other) {
            (_, None) => {}
            (Some(known), Some(other)) => known.vote(other),
            (None, Some(other)) => *all = Some(Box::new(*other)),
        }
    }

    fn vote(&mut self, other: &Self) {
        self.sockets = self.sockets.saturating_add(other.sockets);
        if self.opener.key == other.opener.key {
            self.votes = self.votes.saturating_add(other.votes);
        } else if self.votes >= other.votes {
            self.votes -= other.votes;
        } else {
            (self.opener, self.votes) = (other.opener, other.votes - self.votes);
        }
    }
}

/// Whether two processes have nothing to do with each other. A parent and its child, workers of one parent and processes of
/// one program share their sockets as a matter of course, unless they are different programs of different users; what a
/// kernel thread closes, it closes for the opener.
fn are_strangers(opener: &Owner, closer: &Owner) -> bool {
    let is_parent = |parent: &Owner, child: &Owner| {
        child.ppid == parent.key.tgid && (parent.uid == child.uid || parent.comm == child.comm)
    };
    let is_alike =
        opener.uid == closer.uid && (opener.comm == closer.comm || opener.ppid == closer.ppid && opener.ppid > 1);
    !(opener.key.tgid == closer.key.tgid
        || opener.kthread
        || closer.kthread
        || is_parent(opener, closer)
        || is_parent(closer, opener)
        || is_alike)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Comm, ProcessKey};

    fn owner(tgid: u32, ppid: u32, uid: u32, name: u8) -> Owner {
        Owner {
            key: ProcessKey { tgid, start_ns: 1 },
            uid,
            ppid,
            cgroup: 0,
            comm: Comm([name; 16]),
            parent_comm: Comm([0; 16]),
            kthread: false,
            exiting: false,
        }
    }

    #[test]
    fn who_shares_sockets_as_a_matter_of_course_is_no_stranger() {
        let closer = owner(10, 5, 1000, b'a');
        let is_stranger = |opener: Owner| are_strangers(&opener, &closer);
        assert!(is_stranger(owner(20, 1, 1000, b'b')) && is_stranger(owner(20, 1, 0, b'a')), "another user's");
        assert!(is_stranger(owner(20, 5, 0, b'b')), "of one parent, but another user's");
        assert!(!is_stranger(owner(5, 1, 1000, b'b')), "its parent");
        assert!(!is_stranger(owner(20, 10, 1000, b'b')), "its child");
        assert!(!is_stranger(owner(5, 1, 0, b'a')), "a parent of the same program, as sshd's");
        assert!(is_stranger(owner(5, 1, 0, b'b')) && is_stranger(owner(20, 10, 0, b'b')), "of other users");
        assert!(!is_stranger(owner(20, 5, 1000, b'b')), "a worker of the same parent");
        assert!(!is_stranger(owner(20, 1, 1000, b'a')), "of the same program");
        assert!(!is_stranger(owner(10, 5, 1000, b'b')), "itself after an exec");
        assert!(!are_strangers(&owner(20, 1, 0, b'b'), &Owner { kthread: true, ..closer }));
    }

    #[test]
    fn most_frequent_opener_wins() {
        let (closer, mut all) = (owner(10, 1, 1000, b'a'), None);
        for tgid in [20, 30, 20, 40, 20, 20] {
            Strangers::add(&mut all, &owner(tgid, 1, 0, b'b'), &closer);
        }
        Strangers::add(&mut all, &closer, &closer);
        let found = all.as_deref().copied().map(|all| (all.opener.key.tgid, all.sockets));
        assert_eq!(found, Some((20, 6)));
        let mut other = None;
        Strangers::absorb(&mut other, all.as_deref());
        Strangers::absorb(&mut other, None);
        assert_eq!(other, all);
    }
}
