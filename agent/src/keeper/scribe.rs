//! The thread that writes the journal: the keeper's loop never waits for a disk, so that it ends what must end whatever
//! the disk does.

use crate::journal::{Journal, JournalError, Record};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What has become of a batch.
#[derive(Debug)]
pub(super) struct Written {
    /// The journal has grown so much that it should be rewritten.
    pub is_long: bool,
    /// How long it took.
    pub took: Duration,
}

enum Work {
    Append(Vec<Record>),
    Rewrite(Vec<Record>),
}

/// The journal, on a thread of its own. One piece of work at a time.
pub(super) struct Scribe(mpsc::SyncSender<Work>);

impl Scribe {
    /// `done` is called on the scribe's thread after each piece of work.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        mut journal: Journal,
        clock: cairn_shared::clock::Clock,
        done: impl Fn(Result<Written, JournalError>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Ok(work) = receiver.recv() {
                let from = clock.now();
                let is_long = match work {
                    Work::Append(records) => journal.append(&records).map(|appended| appended.is_long),
                    Work::Rewrite(records) => journal.rewrite(&records).map(|()| false),
                };
                let took = clock.now().since(from);
                done(is_long.map(|is_long| Written { is_long, took }));
            }
        })?;
        Ok(Self(sender))
    }

    /// Writes a batch. The one before must be done.
    pub fn append(&self, records: Vec<Record>) {
        // It fails only when the thread has panicked, and then so has the process.
        let _ = self.0.send(Work::Append(records));
    }

    /// Replaces all that was written. The piece of work before must be done.
    pub fn rewrite(&self, records: Vec<Record>) {
        let _ = self.0.send(Work::Rewrite(records));
    }
}
