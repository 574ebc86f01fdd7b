//! What the machine itself can do, with nothing of ours in the way.

use crate::exit::{Exit, Failure};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Processes a second of a bare loop: `/bin/true` with both outputs captured through pipes, on `jobs` threads.
pub fn spawn(tasks: u32, jobs: NonZeroUsize) -> Result<f64, Failure> {
    let clock = Clock::start(Timestamp(0));
    let began = clock.now();
    let left = AtomicU32::new(tasks);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let spawn_all = || -> io::Result<()> {
        while take() {
            Command::new("/bin/true").stdin(Stdio::null()).output()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(spawn_all)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
    .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot start /bin/true: {error}")))?;
    Ok(f64::from(tasks) / clock.now().since(began).as_secs_f64())
}

/// Events a second of a bare loop that writes and syncs `appends` batches.
pub fn write(path: &Path, appends: u64, batch: u64, event_bytes: usize) -> Result<f64, Failure> {
    let clock = Clock::start(Timestamp(0));
    let bytes = vec![b'x'; event_bytes * batch as usize];
    let began = clock.now();
    let written = || -> io::Result<()> {
        let mut file = File::create(path)?;
        for _ in 0..appends {
            file.write_all(&bytes)?;
            file.sync_data()?;
        }
        Ok(())
    };
    written().map_err(|error| cannot_write(path, &error))?;
    Ok((appends * batch) as f64 / clock.now().since(began).as_secs_f64())
}

/// Syncs of a measurement.
const SYNCS: usize = 100;

/// Bytes of such a write: about the events of one task in the log, and more than its records in an agent's journal.
const SYNCED_BYTES: usize = 512;

/// How long it takes to append to a file and sync that, at the median, each time after a pause.
pub fn sync(path: &Path, pause: Duration) -> Result<Duration, Failure> {
    let clock = Clock::start(Timestamp(0));
    let mut times = Vec::with_capacity(SYNCS);
    let mut written = || -> io::Result<()> {
        let mut file = File::create(path)?;
        for _ in 0..SYNCS {
            std::thread::sleep(pause);
            let began = clock.now();
            file.write_all(&[b'x'; SYNCED_BYTES])?;
            file.sync_data()?;
            times.push(clock.now().since(began));
        }
        Ok(())
    };
    written().map_err(|error| cannot_write(path, &error))?;
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// Bytes that are written and synced together, about what a decision makes.
const CHUNK: usize = 128 << 10;

/// Tasks a second if all there were to do was to write the same log again, synced every 128 KiB.
pub fn rewrite(log: &Path, path: &Path, tasks: u32) -> Result<f64, Failure> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(log)? {
            bytes.extend(std::fs::read(entry?.path())?);
        }
        Ok(bytes)
    };
    let bytes = read().map_err(|error| cannot_write(log, &error))?;
    let clock = Clock::start(Timestamp(0));
    let began = clock.now();
    let written = || -> io::Result<()> {
        let mut file = File::create(path)?;
        for chunk in bytes.chunks(CHUNK) {
            file.write_all(chunk)?;
            file.sync_data()?;
        }
        Ok(())
    };
    written().map_err(|error| cannot_write(path, &error))?;
    Ok(f64::from(tasks) / clock.now().since(began).as_secs_f64())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::OutOfReach, format!("cannot write {}: {error}", path.display()))
}
