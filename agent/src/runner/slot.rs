//! One slot: what it needs to run one job after the other, and how one job is run.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_model::Timestamp;
use rustix::event::EventfdFlags;

use super::directory::{Place, Touched, WorkRoot};
use super::exit::{Exit, StartFailure};
use super::job::{Finished, Job, RunnerEvent, StopReason, Urgency};
use super::output::Outputs;
use super::pool::Settings;
use super::spawn::Spawned;
use super::watch::{Watch, Watched};
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

/// A process that has just been started.
pub(super) struct Running {
    pub(super) spawned: Spawned,
    pub(super) started_at: Timestamp,
    /// `NAME=VALUE` by which its tree is recognised.
    pub(super) variable: Vec<u8>,
}

/// What a slot keeps from job to job.
pub(super) struct Slot<'a> {
    settings: &'a Settings,
    work_root: &'a WorkRoot,
    control: &'a Control,
    buffer: Vec<u8>,
    /// Empty directories, for the next job.
    place: Option<Place>,
    null: Option<OwnedFd>,
}

impl<'a> Slot<'a> {
    pub(super) fn new(settings: &'a Settings, work_root: &'a WorkRoot, control: &'a Control) -> Self {
        Self { settings, work_root, control, buffer: vec![0; BUFFER_BYTES], place: None, null: None }
    }

    /// Whether the slot has something to [`tidy`](Self::tidy).
    pub(super) fn is_untidy(&self) -> bool {
        self.place.is_some()
    }

    /// Removes what was kept for a next job.
    pub(super) fn tidy(&mut self) {
        if let Some(Err(error)) = self.place.take().map(Place::remove) {
            tracing::debug!(%error, "an empty work directory stays");
        }
    }

    /// Runs a job to its end.
    pub(super) fn run(&mut self, job: &Job) -> Box<Finished> {
        let started_at = (self.settings.clock)();
        let (place, running) = match self.start(job, started_at) {
            Ok(started) => started,
            Err(failure) => return Finished::without_process(job.key, Exit::NotStarted(failure), started_at),
        };
        let (key, events) = (job.key, &self.settings.events);
        events(RunnerEvent::Started {
            key,
            pid: running.spawned.main.pid().as_raw_nonzero().get().unsigned_abs(),
            at: started_at,
        });
        let tools = (&self.settings.clock, self.control);
        let watch = Watch::new(job, &place, running, tools, &mut self.buffer);
        let watched = watch.run(|progress| events(RunnerEvent::Progress { key, progress }));
        let touched = place.touched(started_at);
        let mut finished = report(key, started_at, watched, &place, touched);
        self.place = put_away(job, place, touched, &mut finished);
        if let Some(error) = &finished.log_error {
            tracing::warn!(%error, log = %job.log_path.display(), "the output of a task is not stored in full");
        }
        children::reap_orphans_now_and_then(finished.finished_at);
        finished
    }

    fn start(&mut self, job: &Job, started_at: Timestamp) -> Result<(Place, Running), StartFailure> {
        let null = match &mut self.null {
            Some(null) => &*null,
            none => &*none.insert(File::open("/dev/null").map_err(StartFailure::NoRoom)?.into()),
        };
        let place = match self.place.take() {
            Some(place) => place,
            None => self.work_root.make(started_at)?,
        };
        let (name, id) = &self.settings.marker;
        // No attempt of any life has the same value.
        let value = format!("{id}:{}:{}", job.key, started_at.0);
        match spawn::spawn(job, &place, (name, &value), &self.settings.withheld, null) {
            Ok(spawned) => {
                Ok((place, Running { spawned, started_at, variable: format!("{name}={value}").into_bytes() }))
            }
            Err(failure) => {
                self.place = Some(place);
                Err(failure)
            }
        }
    }
}

/// Collects what the attempt left.
fn report(
    key: u64,
    started_at: Timestamp,
    watched: Watched<'_>,
    place: &Place,
    touched: Touched,
) -> Box<Finished> {
    let Watched { exit, finished_at, log, progress, left_behind } = watched;
    let log = log.finish();
    let outputs = if touched.outer { output::read(&place.output) } else { Outputs::default() };
    Box::new(Finished {
        key,
        exit,
        started_at: Some(started_at),
        finished_at,
        output_bytes: log.bytes,
        left_out_bytes: log.left_out_bytes,
        log_error: log.error,
        progress: progress.finish(touched.outer),
        outputs: outputs.values,
        outputs_ignored: outputs.ignored,
        kept_work: None,
        cleanup_error: None,
        left_behind,
    })
}

/// Keeps, removes or reuses the directories of an attempt that is over; what is left for the next one.
fn put_away(job: &Job, place: Place, touched: Touched, finished: &mut Finished) -> Option<Place> {
    if touched.inner && !finished.exit.is_success() {
        finished.kept_work = Some(place.keep(&job.kept_link));
        return None;
    }
    if touched.inner || touched.outer {
        finished.cleanup_error = place.remove().err();
        return None;
    }
    Some(place)
}
