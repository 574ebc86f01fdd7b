//! What each idempotency key was used for. It stands in the log with the submission, so a restart forgets none.

use cairn_model::RunId;
use std::collections::{HashMap, VecDeque};

/// Keys that are remembered, the newest: some 200 bytes each. A client that tries again does so within minutes, not
/// after so many other submissions.
const MAX_KEYS: usize = 100_000;

/// A key, and whose it is.
type Name = (String, String);

/// What one key was used for: the same again is one submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// The plan, by its hash.
    pub plan_hash: String,
    /// Values of its parameters, sorted.
    pub parameters: Vec<(String, String)>,
    /// The first failure ends the run.
    pub fail_fast: bool,
}

/// The keys of submissions.
#[derive(Default)]
pub(super) struct Keys {
    used: HashMap<Name, (RunId, Use)>,
    order: VecDeque<Name>,
}

impl Keys {
    /// The run that a user submitted under a key, and what it was.
    pub fn find(&self, user: &str, key: &str) -> Option<&(RunId, Use)> {
        self.used.get(&(user.to_owned(), key.to_owned()))
    }

    /// Remembers a submission.
    pub fn remember(&mut self, user: String, key: String, run: RunId, what: Use) {
        let name = (user, key);
        if self.used.insert(name.clone(), (run, what)).is_some() {
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
        let what = Use { plan_hash: "h".into(), parameters: Vec::new(), fail_fast: false };
        for number in 0..=MAX_KEYS as u64 {
            keys.remember("ada".into(), number.to_string(), RunId::new("p", number + 1), what.clone());
        }
        assert_eq!(keys.find("ada", "0"), None);
        assert_eq!(keys.find("ada", "1").map(|(run, _)| run.number()), Some(2));
        assert_eq!(keys.find("eve", "1"), None);
        assert_eq!((keys.used.len(), keys.order.len()), (MAX_KEYS, MAX_KEYS));
    }
}
