//! Users and their names.

use crate::confine::{self, Part};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Users looked up. User namespaces can map any number of uids.
const MAX_USERS: usize = 4096;

/// Of these, in one range of uids.
const MAX_IN_RANGE: usize = 1024;

/// Uids from here on come in ranges of so many, each given to one user (`/etc/subuid`).
const RANGE: u32 = 65_536;

/// The user that a uid counts for where users share something: itself, or the first of its range.
pub fn whole(uid: u32) -> u32 {
    if uid < RANGE { uid } else { uid / RANGE * RANGE }
}

/// Names by uid, looked up in a thread of its own: the user database may be a server that does not answer, and tracing
/// must not wait for it.
pub struct UserNames {
    ask: SyncSender<u32>,
    answers: Receiver<(u32, String)>,
    asked: HashSet<u32>,
    /// How many of each range.
    in_range: HashMap<u32, usize>,
}

impl UserNames {
    /// Starts the thread. It ends when this is dropped, after a running look-up has returned.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start() -> io::Result<Self> {
        let (ask, questions) = sync_channel::<u32>(MAX_USERS);
        let (sender, answers) = sync_channel(MAX_USERS);
        thread::Builder::new().name("user names".to_owned()).stack_size(256 * 1024).spawn(move || {
            confine::enter(Part::Users);
            for uid in questions {
                let Some(user) = uzers::get_user_by_uid(uid) else { continue };
                if sender.send((uid, user.name().to_string_lossy().into_owned())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers, asked: HashSet::new(), in_range: HashMap::new() })
    }

    /// Asks for a name, once for each uid, for the first 4,096 uids, and for at most 1,024 of those that may be one user's.
    /// Does not wait.
    pub fn ask(&mut self, uid: u32) {
        if self.asked.len() == MAX_USERS || self.asked.contains(&uid) {
            return;
        }
        let in_range = self.in_range.entry(if uid < RANGE { 0 } else { whole(uid) }).or_default();
        if uid < RANGE || *in_range < MAX_IN_RANGE {
            *in_range += 1;
            self.asked.insert(uid);
            // The channel has room for all of them, and the thread runs as long as this does.
            let _ = self.ask.try_send(uid);
        }
    }

    /// The names that have arrived. A uid without a name gets no answer.
    pub fn answers(&self) -> impl Iterator<Item = (u32, String)> + '_ {
        self.answers.try_iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use std::time::Duration;

    #[test]
    fn root_has_a_name_and_most_uids_have_none() {
        let mut users = UserNames::start().unwrap();
        users.ask(u32::MAX - 7);
        users.ask(0);
        users.ask(0);
        let answer = users.answers.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(answer, (0, "root".to_owned()), "the uid without a name was looked up first and has no answer");
        assert_eq!(users.answers().next(), None);
    }

    #[test]
    fn a_range_of_subordinate_uids_is_one_user() {
        assert_eq!([0, 65_535, 65_536, 131_071, 131_072].map(whole), [0, 65_535, 65_536, 65_536, 131_072]);
    }

    #[test]
    fn the_number_of_users_is_bounded() {
        let mut users = UserNames::start().unwrap();
        for uid in 0..10_000 {
            users.ask(45_000 * RANGE + uid);
        }
        assert_eq!(users.asked.len(), MAX_IN_RANGE, "one user may have them all");
        for uid in 0..10_000 {
            users.ask(uid);
        }
        assert_eq!(users.asked.len(), MAX_USERS);
    }
}
