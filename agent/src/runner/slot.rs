//! One slot: what it needs to run one job after the other, and how one job is run.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_model::Timestamp;
use rustix::event::EventfdFlags;

use super::exit::{Exit, StartFailure};
use super::job::{Clock, EventSink, Finished, Job, RunnerEvent, StopReason, Urgency};
use super::watch::{Watch, Watched};
use super::directory::WorkDirectories;
use super::{children, output, spawn};

/// How much output is read at once; also the memory that a slot keeps for it.
const BUFFER_BYTES: usize = 64 * 1024;

/// How others reach a slot that watches a process.
pub(super) struct Control {
    event: OwnedFd,
    request: Mutex<Option<Request>>,
}

#[derive(Clone, Copy)]
struct Request {
    key: u64,
    reason: StopReason,
    urgency: Urgency,
}

impl Control {
    /// # Errors
    /// When the system has no more file descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, request: Mutex::new(None) })
    }

    /// Readable when there may be a request.
    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// Asks the slot to stop the job that it runs. A second request may hurry, never slow down.
    pub(super) fn request(&self, key: u64, reason: StopReason, urgency: Urgency) {
        let mut request = self.lock();
        *request = match *request {
            Some(earlier) if earlier.key == key => {
                Some(Request { urgency: earlier.urgency.max(urgency), ..earlier })
            }
            _ => Some(Request { key, reason, urgency }),
        };
        drop(request);
        // It fails only if the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// The request for this job, if there is one.
    pub(super) fn take(&self, key: u64) -> Option<(StopReason, Urgency)> {
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        let request = self.lock().filter(|request| request.key == key)?;
        Some((request.reason, request.urgency))
    }

    /// Forgets the request for the job before.
    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Request>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a slot keeps from job to job.
pub(super) struct Slot<'a> {
    clock: &'a Clock,
    events: &'a EventSink,
    marker: &'a (OsString, OsString),
    control: &'a Control,
    buffer: Vec<u8>,
    directories: WorkDirectories,
    null: Option<OwnedFd>,
}

impl<'a> Slot<'a> {
    pub(super) fn new(
        clock: &'a Clock,
        events: &'a EventSink,
        marker: &'a (OsString, OsString),
        control: &'a Control,
    ) -> Self {
        let directories = WorkDirectories::default();
        Self { clock, events, marker, control, buffer: vec![0; BUFFER_BYTES], directories, null: None }
    }

    /// Whether the slot has something to [`tidy`](Self::tidy).
    pub(super) fn is_untidy(&self) -> bool {
        self.directories.has_spare()
    }

    /// Removes what was kept for a next job.
    pub(super) fn tidy(&mut self) {
        self.directories.remove_spare();
    }

    /// Runs a job to its end.
    pub(super) fn run(&mut self, job: &Job) -> Box<Finished> {
        let (spawned, started_at) = match self.directories.prepare(job).and_then(|()| self.start(job)) {
            Ok(started) => started,
            Err(failure) => {
                return Finished::without_process(job.key, Exit::NotStarted(failure), (self.clock)());
            }
        };
        let key = job.key;
        (self.events)(RunnerEvent::Started { key, pid: spawned.child.id(), at: started_at });
        let watch = Watch::new(job, spawned, started_at, (self.clock, self.control), &mut self.buffer);
        let watched = watch.run(|progress| (self.events)(RunnerEvent::Progress { key, progress }));
        let finished = finish(job, started_at, watched, &mut self.directories);
        children::reap_orphans_now_and_then(finished.finished_at);
        finished
    }

    fn start(&mut self, job: &Job) -> Result<(spawn::Spawned, Timestamp), StartFailure> {
        let null = match &mut self.null {
            Some(null) => &*null,
            none => &*none.insert(File::open("/dev/null").map_err(StartFailure::NoRoom)?.into()),
        };
        let started_at = (self.clock)();
        Ok((spawn::spawn(job, self.marker, null)?, started_at))
    }
}

/// Collects what the attempt left in files, and removes them if it succeeded.
fn finish(
    job: &Job,
    started_at: Timestamp,
    watched: Watched<'_>,
    directories: &mut WorkDirectories,
) -> Box<Finished> {
    let Watched { exit, finished_at, log, progress, left_behind } = watched;
    let log = log.finish();
    let (progress, has_progress) = progress.finish();
    let outputs = output::read(&job.output_path);
    let cleanup_error =
        if exit.is_success() { directories.remove(job, has_progress, outputs.has_file).err() } else { None };
    Box::new(Finished {
        key: job.key,
        exit,
        started_at: Some(started_at),
        finished_at,
        output_bytes: log.bytes,
        left_out_bytes: log.left_out_bytes,
        log_error: log.error,
        progress,
        outputs: outputs.values,
        outputs_ignored: outputs.ignored,
        cleanup_error,
        left_behind,
    })
}
