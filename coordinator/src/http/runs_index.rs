//! All runs of the store, kept up to date by reading on from where the last reader stopped.

use super::problem::Problem;
use crate::projection::{RunOverview, RunsFold};
use crate::store::{Cursor, EventStore, ReadError};
use cairn_model::RunId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The runs of a store.
pub(super) struct RunsIndex {
    store: Arc<dyn EventStore>,
    index: Mutex<Index>,
}

struct Index {
    cursor: Cursor,
    fold: RunsFold,
    /// For each run its place in the fold, and the position of its first event.
    places: HashMap<String, (usize, u64)>,
    /// For each project the place of its newest run.
    newest: HashMap<String, usize>,
}

/// A run that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// `PROJECT.N`.
    pub run: String,
    /// The position of its first event.
    pub first: u64,
    /// It has ended.
    pub is_over: bool,
    /// All before this position was looked at.
    pub read_to: u64,
}

impl RunsIndex {
    pub(super) fn new(store: Arc<dyn EventStore>) -> Self {
        let index = Index {
            cursor: Cursor::all(1),
            fold: RunsFold::default(),
            places: HashMap::new(),
            newest: HashMap::new(),
        };
        Self { store, index: Mutex::new(index) }
    }

    /// The run of that name: `PROJECT.N`, or `PROJECT` for its newest.
    pub(super) async fn find(&self, name: &str) -> Result<Found, Problem> {
        let mut index = self.index.lock().await;
        index.read_on(&*self.store).await.map_err(|error| unreadable(&error))?;
        let runs = index.fold.runs();
        let place = match index.places.get(name) {
            Some(&(place, _)) => Some(place),
            None => index.newest.get(name).copied(),
        };
        let run = place.and_then(|place| runs.get(place)).ok_or_else(|| Problem::no_such_run(name))?;
        let text = run.run.to_string();
        let first = index.places.get(&text).map_or(1, |(_, first)| *first);
        let read_to = index.cursor.next_position();
        Ok(Found { run: text, first, is_over: run.status.is_final(), read_to })
    }

    /// What `take` makes of all runs, in the order of their submission.
    pub(super) async fn all<T>(&self, take: impl FnOnce(&[RunOverview]) -> T) -> Result<T, Problem> {
        let mut index = self.index.lock().await;
        index.read_on(&*self.store).await.map_err(|error| unreadable(&error))?;
        Ok(take(index.fold.runs()))
    }
}

impl Index {
    /// Reads to the end of what is durable. Dropped half-way it goes on from there the next time.
    async fn read_on(&mut self, store: &dyn EventStore) -> Result<(), ReadError> {
        loop {
            let page = store.read(&mut self.cursor).await?;
            if page.is_empty() {
                return Ok(());
            }
            for record in &page {
                let before = self.fold.runs().len();
                self.fold.take(record);
                if self.fold.runs().len() > before {
                    self.enter(before, record.position);
                }
            }
        }
    }

    fn enter(&mut self, place: usize, position: u64) {
        let run: &RunId = &self.fold.runs()[place].run;
        self.places.insert(run.to_string(), (place, position));
        let newest = self.newest.entry(run.project().to_owned()).or_insert(place);
        if self.fold.runs()[*newest].run.number() < run.number() {
            *newest = place;
        }
    }
}

/// What a store that cannot be read means for a client.
pub(super) fn unreadable(error: &ReadError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "cannot read the store");
    Problem::unavailable("the store cannot be read; the coordinator's log says why")
}
