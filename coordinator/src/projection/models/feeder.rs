//! Feeds read models from a log: one reader behind whoever writes, page by page.
//!
//! Contract: after [`Feeder::catch_up`] the models are what the log makes of them, however often and wherever an earlier
//! feeder was stopped, and however many feed the same tables. Tables of another log, or of one that was cut back since,
//! are noticed by the record at their end, and made again.

use super::fold::Fold;
use super::{Known, ModelError, ReadModels};
use crate::store::{Cursor, EventReader, ReadError, StoredRecord};
use cairn_model::{Plan, RunSubmitted};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the log is looked at for events that nobody told of: those of other coordinators.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long events are gathered: a batch costs its tables about the same whether it has one event or a thousand.
const GATHER: Duration = Duration::from_millis(100);

/// How long it waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Batches in a row that another feeder may have been faster with, before this one rests.
const MAX_LOST: u32 = 16;

/// Why models could not be fed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The tables cannot be read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Where plans come from.
pub type PlanSource = Box<dyn Fn(&RunSubmitted) -> Option<Arc<Plan>> + Send + Sync>;

/// Feeds read models from a log. Its calls block.
pub struct Feeder {
    models: Arc<dyn ReadModels>,
    reader: Box<dyn EventReader>,
    plan_of: PlanSource,
    fold: Fold,
    /// Where it goes on; unknown at first, and after anything went wrong.
    at: Option<(Known, Cursor)>,
}

impl Feeder {
    /// A feeder; it begins where the tables end.
    #[must_use]
    pub fn new(models: Arc<dyn ReadModels>, reader: Box<dyn EventReader>, plan_of: PlanSource) -> Self {
        Self { models, reader, plan_of, fold: Fold::default(), at: None }
    }

    /// Feeds what the log has; returns the position up to which the models know it.
    ///
    /// # Errors
    /// The log or the tables failed; what was fed stays, and the next call goes on.
    pub fn catch_up(&mut self) -> Result<u64, FeedError> {
        let mut lost = 0;
        loop {
            match self.step()? {
                Fed::End(position) => return Ok(position),
                Fed::More => lost = 0,
                Fed::Lost(position) if lost == MAX_LOST => return Ok(position),
                Fed::Lost(_) => lost += 1,
            }
        }
    }

    /// Makes the models again from nothing.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up).
    pub fn rebuild(&mut self) -> Result<u64, FeedError> {
        self.at = None;
        self.models.clear()?;
        self.catch_up()
    }

    /// Feeds one page.
    fn step(&mut self) -> Result<Fed, FeedError> {
        let stepped = self.try_step();
        if !matches!(stepped, Ok(Fed::More | Fed::End(_))) {
            // The rows that are remembered may not be those of the tables.
            (self.at, self.fold) = (None, Fold::default());
        }
        stepped
    }

    fn try_step(&mut self) -> Result<Fed, FeedError> {
        let (known, mut cursor) = match self.at.take() {
            Some(at) => at,
            None => self.begin()?,
        };
        let page = self.reader.read(&mut cursor)?;
        let Some(last) = page.last() else {
            self.at = Some((known, cursor));
            return Ok(Fed::End(known.position));
        };
        let next = Known { position: last.next_position() - 1, mark: mark(last) };
        for record in page.iter().filter(|record| record.position > known.position) {
            if let Some(run) = self.fold.wants(record)
                && let Some(rows) = self.models.load(run)?
            {
                self.fold.know(rows);
            }
            self.fold.take(record, &*self.plan_of);
        }
        let batch = self.fold.finish(known.position + 1, next.position, next.mark);
        if !self.models.apply(&batch)? {
            return Ok(Fed::Lost(self.models.known()?.position));
        }
        self.at = Some((next, cursor));
        Ok(Fed::More)
    }

    /// Where the tables end, if that is in this log; else from its beginning, with empty tables.
    fn begin(&mut self) -> Result<(Known, Cursor), FeedError> {
        let known = self.models.known()?;
        if known.position == 0 {
            return Ok((known, Cursor::all(1)));
        }
        let page = self.reader.read(&mut Cursor::all(known.position))?;
        let is_ours = page
            .first()
            .is_some_and(|record| (record.next_position() - 1, mark(record)) == (known.position, known.mark));
        if is_ours {
            return Ok((known, Cursor::all(known.position + 1)));
        }
        tracing::info!(position = known.position, "the read models are of another log: they are made again");
        self.models.clear()?;
        Ok((Known::default(), Cursor::all(1)))
    }

    /// Feeds whenever there is something, until nobody tells of events any more. `head` is the position of the last
    /// durable event.
    pub async fn follow(mut self, mut head: watch::Receiver<u64>) {
        loop {
            let fed = tokio::task::spawn_blocking(move || {
                let fed = self.catch_up();
                (self, fed)
            });
            let pause = match fed.await {
                Ok((feeder, fed)) => {
                    self = feeder;
                    match fed {
                        Ok(_) => GATHER,
                        Err(error) => {
                            let error: &dyn std::error::Error = &error;
                            tracing::warn!(error, "the read models are behind; they will be tried again");
                            RETRY_INTERVAL
                        }
                    }
                }
                // The process is ending.
                Err(_) => return,
            };
            tokio::time::sleep(pause).await;
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_INTERVAL, head.changed()).await {
                return;
            }
        }
    }
}

/// What became of a page.
enum Fed {
    /// It was fed.
    More,
    /// There was none.
    End(u64),
    /// Somebody else has fed the same tables.
    Lost(u64),
}

/// The checksum by which a record is known again.
fn mark(record: &StoredRecord) -> u32 {
    crc32fast::hash(record.body.as_bytes())
}
