//! Processes that wait to be looked up in `/proc`.

use crate::host::users;
use std::collections::{BTreeMap, HashSet, VecDeque};
use twtrace_core::event::{Owner, ProcessKey};

/// Processes that wait. When full, the oldest of the user with the most is dropped, because it is the likeliest to be gone.
const MAX_WAITING: usize = 1024;

/// Processes remembered as looked up. When full, all are dropped, and those still active are looked up once more.
const MAX_SEEN: usize = 32_768;

/// The queue: users take turns, so that a flood of processes of one user does not keep those of others waiting.
#[derive(Default)]
pub(super) struct LookUps {
    seen: HashSet<ProcessKey>,
    by_user: BTreeMap<u32, VecDeque<Owner>>,
    waiting: usize,
    /// The user whose turn was last.
    last: u32,
}

impl LookUps {
    /// Adds a process; returns whether it is seen for the first time.
    pub(super) fn add(&mut self, owner: &Owner) -> bool {
        if self.seen.contains(&owner.key) {
            return false;
        }
        if self.seen.len() == MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(owner.key);
        if self.waiting == MAX_WAITING {
            self.drop_one();
        }
        self.by_user.entry(users::whole(owner.uid)).or_default().push_back(*owner);
        self.waiting += 1;
        true
    }

    fn drop_one(&mut self) {
        let longest = self.by_user.values_mut().max_by_key(|queue| queue.len());
        if longest.is_some_and(|queue| queue.pop_front().is_some()) {
            self.waiting -= 1;
        }
    }

    /// Takes the newest process of the next user, as it was seen: a short-lived process is soon gone.
    pub(super) fn next(&mut self) -> Option<Owner> {
        let after = self.by_user.range(self.last.saturating_add(1)..).next();
        let uid = *after.or_else(|| self.by_user.iter().next())?.0;
        self.last = uid;
        let queue = self.by_user.get_mut(&uid)?;
        let next = queue.pop_back();
        if queue.is_empty() {
            self.by_user.remove(&uid);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twtrace_core::event::Comm;

    fn owner(uid: u32, tgid: u32) -> Owner {
        let (key, comm) = (ProcessKey { tgid, start_ns: 1 }, Comm([0; 16]));
        Owner { key, uid, ppid: 1, cgroup: 0, comm, parent_comm: comm, kthread: false, exiting: false }
    }

    fn taken(look_ups: &mut LookUps) -> Vec<u32> {
        std::iter::from_fn(|| look_ups.next()).map(|owner| owner.key.tgid).collect()
    }

    #[test]
    fn newest_is_first_and_each_is_looked_up_once() {
        let mut look_ups = LookUps::default();
        assert_eq!([1, 2, 1].map(|tgid| look_ups.add(&owner(7, tgid))), [true, true, false]);
        assert_eq!(taken(&mut look_ups), [2, 1]);
        assert!(!look_ups.add(&owner(7, 1)) && look_ups.next().is_none());
    }

    #[test]
    fn users_take_turns() {
        let mut look_ups = LookUps::default();
        for tgid in 1..=4 {
            look_ups.add(&owner(1000, tgid));
        }
        look_ups.add(&owner(0, 10));
        look_ups.add(&owner(u32::MAX, 20));
        assert_eq!(taken(&mut look_ups), [4, 20, 10, 3, 2, 1]);
    }

    #[test]
    fn full_queue_drops_the_oldest_of_the_user_with_the_most() {
        let mut look_ups = LookUps::default();
        look_ups.add(&owner(0, 1_000_000));
        for tgid in 1..=2000 {
            look_ups.add(&owner(1000, tgid));
        }
        let taken = taken(&mut look_ups);
        assert_eq!((taken.len(), taken.contains(&1_000_000)), (MAX_WAITING, true));
        assert!(taken.contains(&2000) && !taken.contains(&1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut look_ups = LookUps::default();
        for tgid in 0..=MAX_SEEN as u32 {
            look_ups.add(&owner(0, tgid));
        }
        assert!(look_ups.seen.len() <= MAX_SEEN && look_ups.add(&owner(0, 1)), "looked up once more");
    }
}
