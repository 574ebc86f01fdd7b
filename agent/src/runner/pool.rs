//! The runner's handle: a queue of jobs and the threads of the slots.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::directory::WorkRoot;
use super::exit::Exit;
use super::job::{Clock, EventSink, Finished, Job, RunnerEvent, StopReason, Urgency};
use super::slot::{Control, Slot};
use super::{children, leftover};

/// How many jobs may wait for a slot. They are attempts already granted, so that more than a few per slot is a
/// mistake of the caller; the bound keeps that mistake small.
pub const QUEUED_JOBS_MAX: usize = 65_536;

/// The stack of a slot's thread. It calls nothing deep, and big buffers are on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// How long processes that hid from their slot may take to end at the shutdown.
const SWEEP_GRACE: Duration = Duration::from_secs(1);

/// How long a slot keeps an empty work directory for its next job: longer than a coordinator takes to answer the
/// end of a task with the next one.
const TIDY_AFTER: Duration = Duration::from_millis(20);

/// What a runner is made of.
#[derive(Clone)]
pub struct Settings {
    /// How many jobs run at a time.
    pub slots: NonZeroUsize,
    /// A variable that every process gets and that no other runner on this machine gives, so that
    /// [`find_leftovers`](super::find_leftovers) finds them: for instance the id of the state directory.
    ///
    /// The value that a process sees goes on with `:` and what tells its attempt from all others.
    pub marker: (String, String),
    /// Variables of our own environment that tasks do not get: secrets, and what only we are meant to read.
    pub withheld: Vec<String>,
    /// Where the directories of attempts are made; it need not exist yet.
    pub work_root: PathBuf,
    /// The clock for all times in events, and for time-outs.
    pub clock: Clock,
    /// Where events go.
    pub events: EventSink,
}

/// What a slot does next.
enum Next {
    Job(Box<Job>),
    /// No job has come for a while.
    Quiet,
    /// The runner ends.
    End,
}

/// Why a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A job with this key is queued or running.
    #[error("job {key} is queued or running already")]
    DuplicateKey {
        /// The key.
        key: u64,
    },
    /// Too many jobs wait.
    #[error("{QUEUED_JOBS_MAX} jobs wait for a slot already")]
    QueueFull,
    /// The runner ends.
    #[error("the runner is shutting down")]
    ShuttingDown,
    /// There is no thread yet, and none can be made.
    #[error("the first slot cannot be set up")]
    NoSlot(#[source] io::Error),
}

/// Runs jobs. Dropping it ends everything at once; [`Runner::shutdown`] does it properly.
pub struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    work_root: WorkRoot,
    state: Mutex<State>,
    has_work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// All jobs that are not finished, those that run with their slot.
    jobs: HashMap<u64, Option<Arc<Control>>>,
    /// Threads that wait for work.
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    is_closing: bool,
}

impl Runner {
    /// A runner without threads: they come with the jobs. From now on this process reaps its tasks' orphans.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        children::adopt_orphans();
        let work_root = WorkRoot::new(settings.work_root.clone(), (settings.clock)());
        let shared = Shared { settings, work_root, state: Mutex::default(), has_work: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a job: it starts as soon as a slot is free, in the order of the calls. From here on its `Finished`
    /// will come, whatever happens.
    ///
    /// # Errors
    /// The job was not taken, and no event will come.
    pub fn start(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let key = job.key;
        if state.is_closing {
            return Err(Refusal::ShuttingDown);
        }
        if state.jobs.contains_key(&key) {
            return Err(Refusal::DuplicateKey { key });
        }
        if state.queue.len() >= QUEUED_JOBS_MAX {
            return Err(Refusal::QueueFull);
        }
        if state.queue.len() >= state.idle && state.threads.len() < self.shared.settings.slots.get() {
            match self.add_slot(state.threads.len()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => return Err(Refusal::NoSlot(error)),
                Err(error) => tracing::warn!(%error, "one slot less: its thread cannot be made"),
            }
        }
        state.queue.push_back(job);
        state.jobs.insert(key, None);
        let somebody_waits = state.idle > 0;
        drop(state);
        if somebody_waits {
            self.shared.has_work.notify_one();
        }
        Ok(())
    }

    /// Stops a job: one that waits is finished as `Stopped` before this returns, one that runs is ended and
    /// finishes later, with its real result if it was faster. A second call may hurry. Whether there was such a
    /// job.
    pub fn stop(&self, key: u64, reason: StopReason, urgency: Urgency) -> bool {
        let mut state = self.shared.lock();
        match state.jobs.get(&key) {
            None => return false,
            Some(Some(control)) => control.request(key, reason, urgency),
            Some(None) => {
                state.jobs.remove(&key);
                let at = state.queue.iter().position(|job| job.key == key);
                let job = at.and_then(|at| state.queue.remove(at));
                drop(state);
                self.shared.finish_unstarted(job, reason);
            }
        }
        true
    }

    /// Stops all jobs, like [`Runner::stop`] each.
    pub fn stop_all(&self, reason: StopReason, urgency: Urgency) {
        let mut state = self.shared.lock();
        let queued = std::mem::take(&mut state.queue);
        state.jobs.retain(|_, slot| slot.is_some());
        for (&key, control) in state.jobs.iter().filter_map(|(key, slot)| Some((key, slot.as_ref()?))) {
            control.request(key, reason, urgency);
        }
        drop(state);
        self.shared.finish_unstarted(queued, reason);
    }

    /// How many jobs wait, and how many run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.queue.len(), state.jobs.len() - state.queue.len())
    }

    /// Stops all jobs, waits until they are finished, ends whatever of their trees hid until now, and reaps it.
    /// Must not be called by the event sink.
    pub fn shutdown(self, urgency: Urgency) {
        self.close(urgency);
    }

    fn close(&self, urgency: Urgency) {
        let threads = {
            let mut state = self.shared.lock();
            state.is_closing = true;
            std::mem::take(&mut state.threads)
        };
        if threads.is_empty() {
            return;
        }
        self.stop_all(StopReason::ShuttingDown, urgency);
        self.shared.has_work.notify_all();
        for thread in threads {
            // A slot that panics has ended the process.
            let _ = thread.join();
        }
        let marker = &self.shared.settings.marker;
        let left = leftover::end_leftovers((&marker.0, &marker.1), SWEEP_GRACE, &self.shared.settings.clock);
        if !left.is_empty() {
            tracing::info!(processes = left.len(), "ended processes that tasks had left behind");
        }
        children::reap_orphans();
    }

    fn add_slot(&self, number: usize) -> io::Result<JoinHandle<()>> {
        let control = Arc::new(Control::new()?);
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name(format!("slot-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work(&control))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close(Urgency::Immediate);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a slot's thread.
    fn work(&self, control: &Arc<Control>) {
        let mut slot = Slot::new(&self.settings, &self.work_root, control);
        loop {
            let job = match self.next(control, slot.is_untidy()) {
                Next::Job(job) => job,
                Next::Quiet => {
                    slot.tidy();
                    continue;
                }
                Next::End => break,
            };
            let result = panic::catch_unwind(AssertUnwindSafe(|| slot.run(&job)));
            let Ok(finished) = result else {
                // The slot has lost track of a process, and the caller would wait for ever. The panic's text is
                // out; the left-over processes are found by their marker.
                std::process::abort();
            };
            self.lock().jobs.remove(&job.key);
            (self.settings.events)(RunnerEvent::Finished(finished));
        }
        slot.tidy();
    }

    /// What a slot does next.
    fn next(&self, control: &Arc<Control>, is_untidy: bool) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                control.clear();
                state.jobs.insert(job.key, Some(Arc::clone(control)));
                return Next::Job(Box::new(job));
            }
            if state.is_closing {
                return Next::End;
            }
            state.idle += 1;
            let is_quiet;
            (state, is_quiet) = self.wait(state, is_untidy);
            state.idle -= 1;
            if is_quiet && state.queue.is_empty() {
                return Next::Quiet;
            }
        }
    }

    /// Waits for work; whether there was none for a while, if that is asked.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, is_untidy: bool) -> (MutexGuard<'a, State>, bool) {
        if is_untidy {
            let waited = self.has_work.wait_timeout(state, TIDY_AFTER);
            let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
            (state, result.timed_out())
        } else {
            (self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner), false)
        }
    }

    fn finish_unstarted(&self, jobs: impl IntoIterator<Item = Job>, reason: StopReason) {
        for job in jobs {
            let exit = Exit::Stopped { reason, end: None };
            let finished = Finished::without_process(job.key, exit, (self.settings.clock)());
            (self.settings.events)(RunnerEvent::Finished(finished));
        }
    }
}
