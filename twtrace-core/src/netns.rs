//! Which network namespace an inode number means at the moment. The kernel gives the number of a namespace that is gone to
//! the next one, usually at once; its cookie (`net->net_cookie`, from 5.15) is never used again.
//!
//! Here each namespace has an id: its inode number, or a number of its own if another one had that inode number before.

use crate::event::Event;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;

/// Inode numbers remembered. When full, all are forgotten, and every namespace gets a number of its own from then on.
const INODES: usize = 1 << 16;

/// Earlier namespaces remembered, for records that come late. When full, the oldest is forgotten: a record of it then
/// belongs to a namespace without a name.
const EARLIER: usize = 4096;

/// Bits of a cookie that are compared: as many as a record has room for.
const COOKIE: u64 = (1 << 48) - 1;

/// Ids from here on are no inode numbers: the kernel would need 251 million namespaces and files of `/proc` to get there
/// (`PROC_DYNAMIC_FIRST`, the lowest free number first).
const FIRST_OWN: u32 = 0xFF00_0000;

/// Whether an id is an inode number as well.
pub fn is_inode(id: u32) -> bool {
    id < FIRST_OWN
}

#[derive(Clone, Copy, Debug)]
struct Current {
    id: u32,
    /// 0 when unknown.
    cookie: u64,
    is_gone: bool,
}

/// The ids.
#[derive(Debug, Default)]
pub struct NetnsIds {
    /// The last record's question and its answer: most records come from the same namespace as the one before.
    last: (u32, u64, u32),
    current: HashMap<u32, Current, FixedState>,
    earlier: HashMap<(u32, u64), u32, FixedState>,
    order: VecDeque<(u32, u64)>,
    /// Numbers given besides inode numbers.
    given: u32,
    has_forgotten: bool,
    news: Vec<Event>,
    active: HashSet<(u32, u32), FixedState>,
}

impl NetnsIds {
    /// The id of a namespace by its inode number, 0 when unknown, and its cookie, 0 when unknown. Without a cookie it is the
    /// one that has the inode number now.
    pub fn id(&mut self, inode: u32, cookie: u64) -> u32 {
        self.look_up(inode, cookie & COOKIE)
    }

    /// The same for a record, which shows that the namespace is in use.
    #[inline]
    pub fn of_record(&mut self, inode: u32, cookie: u64) -> u32 {
        if (inode, cookie) == (self.last.0, self.last.1) {
            return self.last.2;
        }
        let id = self.look_up(inode, cookie & COOKIE);
        if inode != 0 {
            self.active.insert((id, inode));
        }
        self.last = (inode, cookie, id);
        id
    }

    /// Those of which records have come since the last call, by id and inode number.
    pub fn take_active(&mut self) -> HashSet<(u32, u32), FixedState> {
        self.last = (0, 0, 0);
        std::mem::take(&mut self.active)
    }

    fn look_up(&mut self, inode: u32, cookie: u64) -> u32 {
        if inode == 0 {
            return 0;
        }
        if let Some(current) = self.current.get_mut(&inode) {
            if current.cookie == cookie || (!current.is_gone && (cookie == 0 || current.cookie == 0)) {
                if cookie != 0 {
                    current.cookie = cookie;
                }
                if !(current.is_gone && cookie == 0) {
                    return current.id;
                }
            }
            if let Some(id) = self.earlier.get(&(inode, cookie)) {
                return *id;
            }
            let before = *current;
            self.remember((inode, before.cookie), before.id);
            if !before.is_gone {
                self.news.push(Event::NamespaceGone { netns: before.id });
            }
        } else if self.current.len() >= INODES {
            self.current.clear();
            self.has_forgotten = true;
        }
        let is_first = is_inode(inode) && !self.has_forgotten && !self.current.contains_key(&inode);
        let id = if is_first { inode } else { self.next() };
        self.current.insert(inode, Current { id, cookie, is_gone: false });
        if id != inode {
            self.news.push(Event::Namespace { netns: id, inode, name: String::new(), refused: None });
        }
        id
    }

    fn next(&mut self) -> u32 {
        self.given = self.given.wrapping_add(1);
        FIRST_OWN | self.given
    }

    fn remember(&mut self, key: (u32, u64), id: u32) {
        if key.1 == 0 {
            // Nothing could ever be found by it.
            return;
        }
        if self.order.len() == EARLIER
            && let Some(oldest) = self.order.pop_front()
        {
            self.earlier.remove(&oldest);
        }
        self.order.push_back(key);
        self.earlier.insert(key, id);
    }

    /// A namespace is gone: the next one with its inode number is another one, even where no cookie is known.
    pub fn gone(&mut self, inode: u32, id: u32) {
        if let Some(current) = self.current.get_mut(&inode).filter(|current| current.id == id) {
            current.is_gone = true;
            self.last = (0, 0, 0);
        }
    }

    /// What has become known since the last call, to be passed on before the event that it comes from.
    pub fn news(&mut self) -> std::vec::Drain<'_, Event> {
        self.news.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INODE: u32 = 0xF000_0007;
    const OWN: u32 = FIRST_OWN;

    fn news(ids: &mut NetnsIds) -> Vec<String> {
        ids.news()
            .map(|event| match event {
                Event::Namespace { netns, inode, .. } => format!("{netns:x} is {inode:x}"),
                Event::NamespaceGone { netns } => format!("{netns:x} is gone"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn first_namespace_of_an_inode_number_has_it_as_its_id() {
        let mut ids = NetnsIds::default();
        assert_eq!((ids.id(INODE, 5), ids.id(INODE, 5), ids.id(INODE, 0), ids.id(0, 9)), (INODE, INODE, INODE, 0));
        assert!(news(&mut ids).is_empty());
    }

    #[test]
    fn records_show_which_namespaces_are_in_use() {
        let mut ids = NetnsIds::default();
        ids.id(INODE + 1, 6);
        for _ in 0..2 {
            assert_eq!((ids.of_record(INODE, 5), ids.of_record(INODE, 5)), (INODE, INODE));
            assert_eq!(ids.take_active().into_iter().collect::<Vec<_>>(), [(INODE, INODE)]);
            assert!(ids.take_active().is_empty());
        }
    }

    #[test]
    fn another_cookie_is_another_namespace() {
        let mut ids = NetnsIds::default();
        assert_eq!((ids.id(INODE, 5), ids.id(INODE, 6)), (INODE, OWN + 1));
        assert_eq!(news(&mut ids), ["f0000007 is gone", "ff000001 is f0000007"]);
        // A late record of the first.
        assert_eq!((ids.id(INODE, 5), ids.id(INODE, 6), ids.id(INODE, 0)), (INODE, OWN + 1, OWN + 1));
        assert!(news(&mut ids).is_empty());
        assert_eq!(ids.id(INODE, 7), OWN + 2);
        assert_eq!(news(&mut ids), ["ff000001 is gone", "ff000002 is f0000007"]);
    }

    #[test]
    fn a_cookie_that_becomes_known_later_changes_nothing() {
        let mut ids = NetnsIds::default();
        assert_eq!((ids.id(INODE, 0), ids.id(INODE, 5), ids.id(INODE, 0)), (INODE, INODE, INODE));
        assert_eq!(ids.id(INODE, 6), OWN + 1);
    }

    #[test]
    fn without_cookies_the_end_of_a_namespace_makes_the_next_one_another() {
        let mut ids = NetnsIds::default();
        assert_eq!(ids.id(INODE, 0), INODE);
        ids.gone(INODE, INODE);
        assert_eq!((ids.id(INODE, 0), ids.id(INODE, 0)), (OWN + 1, OWN + 1));
        assert_eq!(news(&mut ids), ["ff000001 is f0000007"]);
        ids.gone(INODE, 7);
        assert_eq!(ids.id(INODE, 0), OWN + 1, "another one is gone");
    }

    #[test]
    fn a_record_that_comes_after_the_end_belongs_to_the_one_that_is_gone() {
        let mut ids = NetnsIds::default();
        assert_eq!(ids.id(INODE, 5), INODE);
        ids.gone(INODE, INODE);
        assert_eq!((ids.id(INODE, 5), ids.id(INODE, 6)), (INODE, OWN + 1));
        assert_eq!(news(&mut ids), ["ff000001 is f0000007"]);
    }

    #[test]
    fn what_is_forgotten_is_never_mistaken() {
        let mut ids = NetnsIds::default();
        for cookie in 1..=EARLIER as u64 + 10 {
            ids.id(INODE, cookie);
        }
        let first = ids.id(INODE, 1);
        assert_eq!(first, OWN + EARLIER as u32 + 10, "as if it had never been seen");
        let mut ids = NetnsIds::default();
        for inode in 0..=INODES as u32 {
            ids.id(INODE + inode, 1);
        }
        assert!(!is_inode(ids.id(INODE, 1)) && !is_inode(ids.id(INODE, 2)));
        assert!(ids.current.len() <= INODES && ids.earlier.len() <= EARLIER);
    }
}
