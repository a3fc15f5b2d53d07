//! Names of users.

use uzers::{Users as _, UsersCache};

/// Users remembered at a time. User namespaces can map uids in any number.
const MAX_USERS: usize = 4096;

/// Names by uid, each asked for once as long as it is remembered: the user database may be a server far away.
pub struct UserNames {
    cache: UsersCache,
    asked: usize,
}

impl UserNames {
    /// Nothing looked up so far.
    pub fn new() -> Self {
        Self { cache: UsersCache::new(), asked: 0 }
    }

    /// The name of a uid, or `None` when the user database has none.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        if self.asked == MAX_USERS {
            *self = Self::new();
        }
        self.asked += 1;
        Some(self.cache.get_user_by_uid(uid)?.name().to_string_lossy().into_owned())
    }
}

impl Default for UserNames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_most_uids_have_none() {
        let mut users = UserNames::new();
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(u32::MAX - 7), None);
        for uid in 3_000_000_000..3_000_000_000 + 10 {
            users.name(uid);
        }
        assert!(users.asked <= MAX_USERS);
    }
}
