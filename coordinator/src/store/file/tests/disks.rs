//! Disks that fail: they do what a disk does until they are told to stop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use super::super::disk::{Disk, OpenFile, RealDisk};
use super::{Random, put};

/// A disk whose syncs do nothing, which is all that a test needs that does not cut the machine's power: a real sync
/// takes a hundred times as long as the rest of the test.
#[derive(Debug)]
pub(super) struct QuickDisk;

impl Disk for QuickDisk {
    fn create(&mut self, path: &Path) -> io::Result<OpenFile> {
        RealDisk.create(path)
    }

    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()> {
        RealDisk.write_all(file, bytes)
    }

    fn sync_data(&mut self, _file: &mut OpenFile) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        File::open(path).map(drop)
    }

    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()> {
        RealDisk.truncate(file, bytes)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The error comes, and nothing has been done.
    Undone(i32),
    /// The error comes, and all has been done.
    Done(i32),
    /// The error comes, and of what was to be written a part has been.
    Part(i32, usize),
}

/// Fails the operation with the number `at` (from 0), and works before and after that.
#[derive(Debug)]
pub(super) struct FaultyDisk {
    pub(super) at: usize,
    pub(super) fault: Fault,
    pub(super) operations: Arc<Mutex<usize>>,
}

impl FaultyDisk {
    /// Does `operation` or fails. `part` is what stands for a part of it.
    fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut QuickDisk) -> io::Result<T>,
        part: impl FnOnce(usize) -> io::Result<()>,
    ) -> io::Result<T> {
        let mut operations = self.operations.lock().unwrap();
        *operations += 1;
        if *operations != self.at + 1 {
            return operation(&mut QuickDisk);
        }
        let code = match self.fault {
            Fault::Undone(code) => code,
            Fault::Done(code) => {
                operation(&mut QuickDisk)?;
                code
            }
            Fault::Part(code, bytes) => {
                part(bytes)?;
                code
            }
        };
        Err(io::Error::from_raw_os_error(code))
    }
}

impl Disk for FaultyDisk {
    fn create(&mut self, path: &Path) -> io::Result<OpenFile> {
        self.run(|disk| disk.create(path), |_| Ok(()))
    }

    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()> {
        let mut same = file.file.try_clone()?;
        self.run(|disk| disk.write_all(file, bytes), |part| same.write_all(&bytes[..part.min(bytes.len())]))
    }

    fn sync_data(&mut self, file: &mut OpenFile) -> io::Result<()> {
        self.run(|disk| disk.sync_data(file), |_| Ok(()))
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.run(|disk| disk.sync_dir(path), |_| Ok(()))
    }

    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()> {
        self.run(|disk| disk.truncate(file, bytes), |_| Ok(()))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.run(|disk| disk.remove(path), |_| Ok(()))
    }
}

/// A disk whose power fails: it remembers what has been synced, and [`lose_power`](Self::lose_power) lets the rest
/// survive in part. After so many operations nothing works any more. As with a real kernel, a sync that fails forgets
/// what was to be written: a later one does not write it, while it can still be read.
#[derive(Clone, Debug)]
pub(super) struct PowerDisk {
    state: Arc<Mutex<Power>>,
}

#[derive(Debug, Default)]
struct Power {
    /// How many operations are left.
    operations: usize,
    files: BTreeMap<PathBuf, Durable>,
}

/// What of a file is durable.
#[derive(Debug, Default)]
struct Durable {
    content: Vec<u8>,
    /// What was written since.
    dirty: Vec<Range<usize>>,
    /// Whether the directory has been synced since the file was made.
    named: bool,
    /// Whether it has been removed, and the directory not synced since.
    removed: bool,
}

impl PowerDisk {
    /// A disk on which all that is in `events` is durable, and that works for so many operations.
    pub(super) fn new(operations: usize, events: &Path) -> Self {
        let mut power = Power { operations, files: BTreeMap::new() };
        for entry in std::fs::read_dir(events).into_iter().flatten() {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            power.files.insert(path, Durable { content, named: true, ..Durable::default() });
        }
        Self { state: Arc::new(Mutex::new(power)) }
    }

    /// The disk works again, for so many operations. No power was lost.
    pub(super) fn works_for(&self, operations: usize) {
        self.state.lock().unwrap().operations = operations;
    }

    fn run<T>(&mut self, operation: impl FnOnce(&mut Power) -> io::Result<T>) -> io::Result<T> {
        let mut power = self.state.lock().unwrap();
        match power.operations.checked_sub(1) {
            Some(left) => {
                power.operations = left;
                operation(&mut power)
            }
            None => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
        }
    }

    /// Leaves on the disk what was synced, and nothing else.
    pub(super) fn lose_all_that_is_not_synced(&self) {
        for (path, durable) in &self.state.lock().unwrap().files {
            if durable.named || durable.removed {
                put(path, &durable.content);
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// Leaves on the disk what a loss of power may leave: of what was not synced each sector is there or is not, a
    /// file has any length between the old and the new, and names may be missing or back again.
    pub(super) fn lose_power(&self, random: &mut Random) {
        for (path, durable) in &self.state.lock().unwrap().files {
            if durable.removed {
                if random.below(2) == 0 {
                    put(path, &durable.content);
                }
            } else if !durable.named && random.below(2) == 0 {
                std::fs::remove_file(path).unwrap();
            } else {
                let current = std::fs::read(path).unwrap();
                put(path, &survivor(&durable.content, &current, random));
            }
        }
    }
}

fn survivor(durable: &[u8], current: &[u8], random: &mut Random) -> Vec<u8> {
    let (short, long) = (durable.len().min(current.len()), durable.len().max(current.len()));
    let length = match random.below(4) {
        0 => durable.len(),
        1 => current.len(),
        _ => short + random.below(long - short + 1),
    };
    let loses_sectors = random.below(2) == 0;
    let mut left = Vec::with_capacity(length);
    while left.len() < length {
        let end = (left.len() / 512 + 1) * 512;
        let keeps_new = !(loses_sectors && random.below(4) == 0);
        for at in left.len()..end.min(length) {
            let new = current.get(at).or(durable.get(at));
            let old = durable.get(at);
            left.push(*if keeps_new { new } else { old }.unwrap_or(&0));
        }
    }
    left
}

impl Disk for PowerDisk {
    fn create(&mut self, path: &Path) -> io::Result<OpenFile> {
        self.run(|power| {
            let file = RealDisk.create(path)?;
            power.files.insert(path.to_owned(), Durable::default());
            Ok(file)
        })
    }

    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()> {
        self.run(|power| {
            let from = usize::try_from(file.file.stream_position()?).unwrap();
            file.file.write_all(bytes)?;
            power.files.entry(file.path.clone()).or_default().dirty.push(from..from + bytes.len());
            Ok(())
        })
    }

    fn sync_data(&mut self, file: &mut OpenFile) -> io::Result<()> {
        let path = file.path.clone();
        let synced = self.run(|power| {
            let durable = power.files.entry(path).or_default();
            let current = std::fs::read(&file.path)?;
            durable.content.resize(current.len(), 0);
            for range in &durable.dirty {
                let range = range.start.min(current.len())..range.end.min(current.len());
                durable.content[range.clone()].copy_from_slice(&current[range]);
            }
            Ok(())
        });
        self.state.lock().unwrap().files.entry(file.path.clone()).or_default().dirty.clear();
        synced
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.run(|power| {
            power.files.retain(|file, durable| !(durable.removed && file.parent() == Some(path)));
            let named = power.files.iter_mut().filter(|(file, _)| file.parent() == Some(path));
            named.for_each(|(_, durable)| durable.named = true);
            Ok(())
        })
    }

    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()> {
        self.run(|_| {
            file.file.set_len(bytes)?;
            file.file.rewind()
        })
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.run(|power| {
            std::fs::remove_file(path)?;
            power.files.entry(path.to_owned()).or_default().removed = true;
            Ok(())
        })
    }
}

/// A disk whose syncs wait until the test lets them pass, and that counts.
#[derive(Clone, Debug, Default)]
pub(super) struct GatedDisk {
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    waiting: bool,
    writes: usize,
    syncs: usize,
}

impl GatedDisk {
    pub(super) fn close(&self) {
        self.gate.0.lock().unwrap().closed = true;
    }

    pub(super) fn open(&self) {
        self.gate.0.lock().unwrap().closed = false;
        self.gate.1.notify_all();
    }

    /// Blocks until a sync waits at the gate.
    pub(super) fn wait_for_sync(&self) {
        let gate = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(gate, |gate| !gate.waiting).unwrap());
    }

    /// How many writes and syncs of files there have been.
    pub(super) fn counts(&self) -> (usize, usize) {
        let gate = self.gate.0.lock().unwrap();
        (gate.writes, gate.syncs)
    }
}

impl Disk for GatedDisk {
    fn create(&mut self, path: &Path) -> io::Result<OpenFile> {
        RealDisk.create(path)
    }

    fn write_all(&mut self, file: &mut OpenFile, bytes: &[u8]) -> io::Result<()> {
        self.gate.0.lock().unwrap().writes += 1;
        RealDisk.write_all(file, bytes)
    }

    fn sync_data(&mut self, _file: &mut OpenFile) -> io::Result<()> {
        let mut gate = self.gate.0.lock().unwrap();
        gate.syncs += 1;
        gate.waiting = true;
        self.gate.1.notify_all();
        let mut gate = self.gate.1.wait_while(gate, |gate| gate.closed).unwrap();
        gate.waiting = false;
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        File::open(path).map(drop)
    }

    fn truncate(&mut self, file: &mut OpenFile, bytes: u64) -> io::Result<()> {
        RealDisk.truncate(file, bytes)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}
