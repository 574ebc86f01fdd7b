//! The output of tasks, as it comes from agents: into files beside the store.
//!
//! A piece lands where it belongs by its offset, so what comes twice lands on itself, and what comes late finds its
//! place. A piece that is lost with a broker leaves a hole of zeros.

use super::budget::Budget;
use cairn_model::RunId;
use cairn_model::ids::is_id;
use cairn_shared::message::codec::decode;
use cairn_shared::message::wire::{Output, ToCoordinator};
use cairn_shared::transport::Delivery;
use std::collections::VecDeque;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of one attempt's output that are kept. An agent keeps less; beyond is not from one of ours.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Attempts whose end of output is remembered: those that somebody may be following, for as long as it takes to look
/// twice where ten thousand a second end.
const REMEMBERED_ENDS: usize = 16_384;

/// How long a log may rest before it is taken for complete although its end was not heard.
const RESTS_FOR: Duration = Duration::from_secs(10);

/// Which logs are complete. Cheap to clone.
#[derive(Clone, Default)]
pub struct LogEnds(Arc<Mutex<VecDeque<(String, String, u32)>>>);

impl LogEnds {
    /// Whether all that an attempt printed has come: its end was heard, or that there was nothing, or nothing has come
    /// for long.
    #[must_use]
    pub fn is_complete(&self, state_directory: &Path, run: &str, task: &str, attempt: u32) -> bool {
        let is_heard = |end: &(String, String, u32)| end.0 == run && end.1 == task && end.2 == attempt;
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_heard) {
            return true;
        }
        let Some(path) = log_path(state_directory, run, task, attempt) else { return true };
        let modified = std::fs::metadata(path).and_then(|found| found.modified());
        // Files' times are by the wall clock, and nothing but this follower's patience hangs on it.
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|rests| rests > RESTS_FOR))
    }

    /// Nothing more comes of the output of an attempt.
    pub(super) fn heard(&self, run: String, task: String, attempt: u32) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= REMEMBERED_ENDS {
            ends.pop_front();
        }
        ends.push_back((run, task, attempt));
    }
}

/// Writes what comes until the channel ends. A failure to write costs output, never a task: it is told once in a while.
pub(super) async fn keep(
    state_directory: PathBuf,
    ends: LogEnds,
    mut budget: Budget,
    mut deliveries: mpsc::Receiver<Delivery>,
) {
    while let Some(delivery) = deliveries.recv().await {
        let message = decode::<ToCoordinator>(&delivery.content_type, &delivery.body);
        let Ok(ToCoordinator::Output(output)) = message else {
            tracing::warn!(id = delivery.id, "what came as output cannot be read");
            delivery.receipt.reject();
            continue;
        };
        if !budget.knows(&output.run).await {
            tracing::debug!(run = output.run, agent = output.agent, "output of a run that there is not");
            delivery.receipt.reject();
            continue;
        }
        let (directory, ends) = (state_directory.clone(), ends.clone());
        // Files block; one piece after the other keeps the order and the memory.
        let taken = tokio::task::spawn_blocking(move || {
            let kept = write(&directory, &mut budget, &output);
            delivery.receipt.acknowledge();
            if output.is_last {
                ends.heard(output.run, output.task, output.attempt);
            }
            (kept, budget)
        });
        let (kept, left) = match taken.await {
            Ok(taken) => taken,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        budget = left;
        if let Err(error) = kept {
            tracing::warn!(%error, "output of a task was not kept");
        }
    }
}

fn write(directory: &Path, budget: &mut Budget, output: &Output) -> io::Result<()> {
    let Some(path) = log_path(directory, &output.run, &output.task, output.attempt) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no attempt that there could be"));
    };
    let end = output.offset.saturating_add(output.bytes.len() as u64);
    if end > MAX_LOG_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is beyond the size of a log"));
    }
    if !budget.admits(&output.run, &directory.join("logs").join(&output.run), &path, end) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.write_all_at(&output.bytes, output.offset)
}

/// Where the output of an attempt is kept; nothing for names that no plan could have.
fn log_path(directory: &Path, run: &str, task: &str, attempt: u32) -> Option<PathBuf> {
    let run = RunId::parse(run)?;
    let (milestone, task) = task.split_once('/')?;
    if !is_id(milestone) || !is_id(task) || attempt == 0 {
        return None;
    }
    let file = format!("{task}.{attempt}.log");
    Some(directory.join("logs").join(run.to_string()).join(milestone).join(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::new_id;
    use crate::store::file::Options;
    use crate::store::{FileStore, Holder};
    use cairn_model::Timestamp;

    fn place() -> (tempfile::TempDir, Budget) {
        let state = tempfile::tempdir().unwrap();
        let holder = Holder::this_process("test".to_owned(), Timestamp(0));
        let store = FileStore::open(state.path(), &holder, Options::new(new_id())).unwrap();
        (state, Budget::new(Arc::new(store)))
    }

    fn piece(task: &str, offset: u64, bytes: &[u8]) -> Output {
        Output {
            agent: "a1".to_owned(),
            run: "apollo.1".to_owned(),
            task: task.to_owned(),
            attempt: 1,
            offset,
            bytes: bytes.to_vec(),
            is_last: false,
        }
    }

    #[test]
    fn pieces_land_where_they_belong_however_they_come() {
        let (state, mut budget) = place();
        for (offset, bytes) in [(6, &b"world"[..]), (0, b"hello "), (6, b"world")] {
            write(state.path(), &mut budget, &piece("build/compile", offset, bytes)).unwrap();
        }
        let log = state.path().join("logs/apollo.1/build/compile.1.log");
        assert_eq!(std::fs::read(log).unwrap(), b"hello world");
    }

    #[test]
    fn an_output_is_complete_when_its_end_was_heard_though_it_had_no_byte() {
        let (state, ends) = (tempfile::tempdir().unwrap(), LogEnds::default());
        let is_complete =
            |ends: &LogEnds, attempt| ends.is_complete(state.path(), "apollo.1", "a/b", attempt);
        assert!(!is_complete(&ends, 1), "nothing is known of it");
        ends.heard("apollo.1".to_owned(), "a/b".to_owned(), 1);
        assert!(is_complete(&ends, 1) && !is_complete(&ends, 2));
        (0..REMEMBERED_ENDS).for_each(|_| ends.heard("apollo.2".to_owned(), "a/b".to_owned(), 1));
        assert!(!is_complete(&ends, 1), "only so many are remembered");
    }

    #[test]
    fn nothing_is_written_outside_or_without_bound() {
        let (state, mut budget) = place();
        for task in ["../x", "a/../b", "a", "/a/b", "a/.b", "a/b/c", "", "a/b\0"] {
            assert!(write(state.path(), &mut budget, &piece(task, 0, b"x")).is_err(), "{task}");
        }
        let run = Output { run: "../apollo.1".to_owned(), ..piece("a/b", 0, b"x") };
        assert!(write(state.path(), &mut budget, &run).is_err());
        assert!(write(state.path(), &mut budget, &piece("a/b", u64::MAX, b"x")).is_err());
        assert!(!state.path().join("logs").exists());
    }
}
