//! Names of users.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Users looked up. User namespaces can map any number of uids.
const MAX_USERS: usize = 4096;

/// Names by uid, looked up in a thread of its own: the user database may be a server that does not answer, and tracing
/// must not wait for it.
pub struct UserNames {
    ask: SyncSender<u32>,
    answers: Receiver<(u32, String)>,
    asked: HashSet<u32>,
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
            for uid in questions {
                let Some(user) = uzers::get_user_by_uid(uid) else { continue };
                if sender.send((uid, user.name().to_string_lossy().into_owned())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers, asked: HashSet::new() })
    }

    /// Asks for a name, once for each uid and for the first 4,096 uids. Does not wait.
    pub fn ask(&mut self, uid: u32) {
        if self.asked.len() < MAX_USERS && self.asked.insert(uid) {
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
    fn the_number_of_users_is_bounded() {
        let mut users = UserNames::start().unwrap();
        for uid in 0..10_000 {
            users.ask(3_000_000_000 + uid);
        }
        assert_eq!(users.asked.len(), MAX_USERS);
    }
}
