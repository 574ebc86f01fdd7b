//! The logs of attempts, from their end until their output is with the broker: how large they are together, and which go.

use crate::link::LogName;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Logs of attempts that have ended.
#[derive(Debug)]
pub(super) struct Logs {
    root: PathBuf,
    limit: u64,
    /// The oldest first; those that are not in `kept` are gone.
    order: VecDeque<LogName>,
    kept: BTreeMap<LogName, Kept>,
    bytes: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: u64,
    shipped: bool,
    settled: bool,
}

impl Logs {
    /// The logs in a directory, where nobody writes at the moment. Beyond `limit` bytes the oldest ones go, shipped or
    /// not.
    pub fn open(root: PathBuf, limit: u64, is_held: impl Fn(&LogName) -> bool) -> Self {
        let mut found = Vec::new();
        for path in files(&root) {
            let name = path.strip_prefix(&root).ok().and_then(Path::to_str).and_then(LogName::of_path);
            if let (Some(name), Ok(metadata)) = (name, path.metadata()) {
                found.push((metadata.modified().ok(), name, metadata.len()));
            }
        }
        found.sort();
        let mut logs = Self { root, limit, order: VecDeque::new(), kept: BTreeMap::new(), bytes: 0 };
        for (_, name, bytes) in found {
            let settled = !is_held(&name);
            logs.ended(name.clone(), bytes);
            if settled {
                logs.settled(&name);
            }
        }
        logs
    }

    /// The attempt writes no more.
    pub fn ended(&mut self, name: LogName, bytes: u64) {
        self.order.push_back(name.clone());
        self.kept.insert(name, Kept { bytes, shipped: false, settled: false });
        self.bytes += bytes;
        while self.bytes > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            if self.kept.get(&oldest).is_some_and(|kept| !kept.shipped) {
                tracing::warn!(
                    log = oldest.path(),
                    "removed before its output was taken: logs have too many bytes"
                );
            }
            self.remove(&oldest);
        }
    }

    /// Its output is with the broker.
    pub fn shipped(&mut self, name: &LogName) {
        self.mark(name, |kept| kept.shipped = true);
    }

    /// Its end was acknowledged.
    pub fn settled(&mut self, name: &LogName) {
        self.mark(name, |kept| kept.settled = true);
    }

    /// Those whose output is not with the broker yet, the oldest first.
    pub fn unshipped(&self) -> impl Iterator<Item = &LogName> {
        self.order.iter().filter(|name| self.kept.get(name).is_some_and(|kept| !kept.shipped))
    }

    fn mark(&mut self, name: &LogName, change: impl Fn(&mut Kept)) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        change(kept);
        if kept.shipped && kept.settled {
            self.remove(name);
            while self.order.front().is_some_and(|name| !self.kept.contains_key(name)) {
                self.order.pop_front();
            }
        }
    }

    fn remove(&mut self, name: &LogName) {
        let Some(kept) = self.kept.remove(name) else { return };
        self.bytes -= kept.bytes;
        let path = self.root.join(name.path());
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, log = %path.display(), "a log stays");
        }
    }
}

/// The files `RUN/MILESTONE/TASK.ATTEMPT.log` below a directory.
fn files(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(root.to_owned()).flat_map(entries).flat_map(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(task: u32) -> LogName {
        LogName { run: "apollo.1".into(), task: format!("build/t{task}"), attempt: 1 }
    }

    fn write(root: &Path, task: u32) {
        let path = root.join(name(task).path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [b'x'; 10]).unwrap();
    }

    #[test]
    fn a_log_goes_when_it_is_shipped_and_its_attempt_acknowledged_in_any_order() {
        let root = tempfile::tempdir().unwrap();
        let mut logs = Logs::open(root.path().to_owned(), 100, |_| true);
        let is_there = |task| root.path().join(name(task).path()).exists();
        for task in [1, 2] {
            write(root.path(), task);
            logs.ended(name(task), 10);
        }
        logs.shipped(&name(1));
        logs.settled(&name(2));
        assert!(is_there(1) && is_there(2));
        assert_eq!(logs.unshipped().collect::<Vec<_>>(), [&name(2)]);
        logs.settled(&name(1));
        logs.shipped(&name(2));
        assert!(!is_there(1) && !is_there(2));
        assert_eq!((logs.bytes, logs.order.len()), (0, 0));
    }

    #[test]
    fn the_oldest_go_when_there_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let mut logs = Logs::open(root.path().to_owned(), 25, |_| true);
        for task in 1..=3 {
            write(root.path(), task);
            logs.ended(name(task), 10);
        }
        assert_eq!(logs.unshipped().collect::<Vec<_>>(), [&name(2), &name(3)]);
        assert!(!root.path().join(name(1).path()).exists());
        let again = Logs::open(root.path().to_owned(), 25, |log| *log == name(2));
        assert_eq!((again.unshipped().count(), again.bytes), (2, 20), "they are found after a restart");
    }
}
