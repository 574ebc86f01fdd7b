//! A run's part in a fleet that several runs share.

use crate::fleet::Ledger;
use cairn_engine::State;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The ledger of a fleet, and how to wake those who wait for room. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shares {
    ledger: Arc<Mutex<Ledger>>,
    runs: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

/// What one run has to do with the ledger. It is taken off it when this is dropped.
pub struct Share {
    run: String,
    shares: Shares,
    wake: Arc<Notify>,
}

impl Shares {
    /// The part of a run.
    #[must_use]
    pub fn of(&self, run: &str) -> Share {
        let wake = Arc::new(Notify::new());
        lock(&self.runs).insert(run.to_owned(), wake.clone());
        Share { run: run.to_owned(), shares: self.clone(), wake }
    }

    /// An agent is there with so many slots, and takes work or not; runs that wait for room look again.
    pub fn open(&self, agent: &str, slots: u32, is_closed: bool) {
        let waiting = {
            let mut ledger = lock(&self.ledger);
            if ledger.lender(agent) == Some((slots, is_closed)) {
                return;
            }
            ledger.open(agent, slots, is_closed);
            ledger.hungry()
        };
        self.wake(&waiting);
    }

    /// An agent is gone.
    pub fn remove(&self, agent: &str) {
        lock(&self.ledger).remove(agent);
    }

    fn wake(&self, runs: &BTreeSet<String>) {
        let known = lock(&self.runs);
        for wake in runs.iter().filter_map(|run| known.get(run)) {
            wake.notify_one();
        }
    }
}

impl Share {
    /// Decides with what the others leave, and notes what is used afterwards. No other run decides meanwhile.
    pub(super) fn decide<T>(&self, state: &mut State, decide: impl FnOnce(&mut State) -> T) -> T {
        let (decided, waiting) = {
            let mut ledger = lock(&self.shares.ledger);
            state.lend(ledger.lend(&self.run, state.agents()));
            let decided = decide(state);
            (decided, ledger.settle(&self.run, state))
        };
        self.shares.wake(&waiting);
        decided
    }

    /// Completes when there may be room that there was not.
    pub(super) async fn room(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.shares.runs).remove(&self.run);
        let waiting = lock(&self.shares.ledger).forget(&self.run);
        self.shares.wake(&waiting);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A decision that panicked ended the process.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
