//! What each idempotency key was used for. It stands in the log with the submission, so a restart forgets none.

use cairn_model::RunId;
use std::collections::{HashMap, VecDeque};

/// Keys that are remembered, the newest: some 200 bytes each. A client that tries again does so within minutes, not
/// after so many other submissions.
const MAX_KEYS: usize = 100_000;

/// A key, and whose it is.
type Name = (String, String);

/// The keys of submissions.
#[derive(Default)]
pub(super) struct Keys {
    used: HashMap<Name, (RunId, String)>,
    order: VecDeque<Name>,
}

impl Keys {
    /// The run that a user submitted under a key, and the hash of its plan.
    pub fn find(&self, user: &str, key: &str) -> Option<&(RunId, String)> {
        self.used.get(&(user.to_owned(), key.to_owned()))
    }

    /// Remembers a submission.
    pub fn remember(&mut self, user: String, key: String, run: RunId, plan_hash: String) {
        let name = (user, key);
        if self.used.insert(name.clone(), (run, plan_hash)).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > MAX_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.used.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_each_of_its_user() {
        let mut keys = Keys::default();
        for number in 0..=MAX_KEYS as u64 {
            keys.remember("ada".into(), number.to_string(), RunId::new("p", number + 1), "h".into());
        }
        assert_eq!(keys.find("ada", "0"), None);
        assert_eq!(keys.find("ada", "1").map(|(run, _)| run.number()), Some(2));
        assert_eq!(keys.find("eve", "1"), None);
        assert_eq!((keys.used.len(), keys.order.len()), (MAX_KEYS, MAX_KEYS));
    }
}
