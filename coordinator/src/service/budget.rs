//! How much output of tasks is kept: so much of a run, and nothing of runs that there are not.
//!
//! What agents say is not trusted: the bound of one attempt (`output`) would not keep a run of many attempts, or of made
//! up names, from filling the disk.

use crate::store::{EventStore, StreamId};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Bytes of output of one run that are kept, over all its attempts: that of a hundred thousand tasks that print 160 KiB
/// each. Beyond, output is dropped, and the log says so once.
const MAX_RUN_BYTES: u64 = 16 << 30;

/// What a file costs at least, and in which steps: a block. So the number of files is bounded as well.
const BLOCK_BYTES: u64 = 4 << 10;

/// Runs whose use is remembered: some more than may be under way. One that is forgotten is measured again.
const MEASURED_RUNS: usize = 1_024;

/// What the output of runs takes on disk.
pub(super) struct Budget {
    store: Arc<dyn EventStore>,
    runs: HashMap<String, Used>,
    /// In the order in which they were measured.
    order: VecDeque<String>,
    most: u64,
}

#[derive(Clone, Copy, Default)]
struct Used {
    bytes: u64,
    is_told: bool,
}

impl Budget {
    pub(super) fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, runs: HashMap::new(), order: VecDeque::new(), most: MAX_RUN_BYTES }
    }

    /// Whether there is such a run. While the store does not answer, every run is.
    pub(super) async fn knows(&self, run: &str) -> bool {
        if self.runs.contains_key(run) {
            return true;
        }
        let head = self.store.stream_head(&StreamId::new(run)).await;
        head.is_ok_and(|head| head.version > 0) || self.store.stopped().is_some()
    }

    /// Whether the file at `path`, below `logs` of the run, may grow to `end` bytes; then it counts as grown. Blocks
    /// the first time that a run is met, for its files are counted.
    pub(super) fn admits(&mut self, run: &str, logs: &Path, path: &Path, end: u64) -> bool {
        let most = self.most;
        let used = self.used(run, logs);
        let is = fs::metadata(path).map_or(0, |found| cost(found.len()));
        let grows = cost(end).saturating_sub(is);
        if used.bytes.saturating_add(grows) <= most {
            used.bytes += grows;
            return true;
        }
        if !std::mem::replace(&mut used.is_told, true) {
            tracing::warn!(run, most, "output is dropped: the run has printed as much as is kept of one");
        }
        false
    }

    fn used(&mut self, run: &str, logs: &Path) -> &mut Used {
        if !self.runs.contains_key(run) {
            if self.order.len() >= MEASURED_RUNS
                && let Some(oldest) = self.order.pop_front()
            {
                self.runs.remove(&oldest);
            }
            self.order.push_back(run.to_owned());
        }
        self.runs.entry(run.to_owned()).or_insert_with(|| Used { bytes: measure(logs), is_told: false })
    }
}

fn cost(bytes: u64) -> u64 {
    bytes.max(1).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// What the files of a run take: one folder a milestone, one file an attempt. What cannot be read is not there.
fn measure(logs: &Path) -> u64 {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let milestones = entries(logs).map(|entry| entry.path());
    let files = milestones.flat_map(|milestone| entries(&milestone).collect::<Vec<_>>());
    files.filter_map(|file| Some(cost(file.metadata().ok()?.len()))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::new_id;
    use crate::store::file::Options;
    use crate::store::{Append, FileStore, Holder, NewRecord};
    use cairn_model::Timestamp;

    fn budget(state: &Path, most: u64) -> Budget {
        let holder = Holder::this_process("test".to_owned(), Timestamp(0));
        let store = FileStore::open(state, &holder, Options::new(new_id())).expect("a store");
        Budget { most, ..Budget::new(Arc::new(store)) }
    }

    #[test]
    fn a_run_may_fill_so_much_and_what_was_there_before_counts() {
        let state = tempfile::tempdir().expect("a directory");
        let logs = state.path().join("logs/apollo.1");
        fs::create_dir_all(logs.join("build")).expect("made");
        fs::write(logs.join("build/a.1.log"), vec![b'x'; 5_000]).expect("written");
        let mut budget = budget(state.path(), 6 * BLOCK_BYTES);
        let file = |name: &str| logs.join("build").join(name);
        // Two blocks are taken.
        assert!(budget.admits("apollo.1", &logs, &file("a.1.log"), 4_000), "what comes twice costs nothing");
        assert!(budget.admits("apollo.1", &logs, &file("b.1.log"), 3 * BLOCK_BYTES));
        assert!(!budget.admits("apollo.1", &logs, &file("c.1.log"), BLOCK_BYTES + 1));
        assert!(budget.admits("apollo.1", &logs, &file("c.1.log"), 0), "a file is a block");
        assert!(!budget.admits("apollo.1", &logs, &file("d.1.log"), 0));
        assert!(budget.runs["apollo.1"].is_told);
        assert!(budget.admits("apollo.2", &state.path().join("logs/apollo.2"), &file("a.1.log"), 1));
    }

    #[test]
    fn only_so_many_runs_are_remembered() {
        let state = tempfile::tempdir().expect("a directory");
        let mut budget = budget(state.path(), MAX_RUN_BYTES);
        for number in 0..=MEASURED_RUNS {
            budget.admits(&format!("apollo.{number}"), Path::new("none"), Path::new("none"), 1);
        }
        assert_eq!((budget.runs.len(), budget.order.len()), (MEASURED_RUNS, MEASURED_RUNS));
        assert!(!budget.runs.contains_key("apollo.0"));
    }

    #[tokio::test]
    async fn only_runs_of_the_log_are_known() {
        let state = tempfile::tempdir().expect("a directory");
        let budget = budget(state.path(), MAX_RUN_BYTES);
        assert!(!budget.knows("apollo.1").await);
        let stream = StreamId::new("apollo.1");
        let record = NewRecord { stream, first_version: 1, count: 1, body: "{}".to_owned() };
        budget.store.submit(Append { epoch: 1, records: vec![record] }).await.expect("stored");
        assert!(budget.knows("apollo.1").await && !budget.knows("apollo.2").await);
    }
}
