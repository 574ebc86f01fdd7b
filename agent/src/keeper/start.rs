//! From settings to a keeper that runs: lock, left-over processes, journal, threads.

use super::core::Core;
use super::job::{JobMaker, logs};
use super::lock::Lock;
use super::logs::Logs;
use super::scribe::Scribe;
use super::service::{Keeper, Parts};
use super::{Ended, Event, KeeperError, MARKER, Reload, Settings};
use crate::journal::{FORMAT, Journal, JournalError, Opened, Record};
use crate::link::LogName;
use crate::machine::{Capacity, Machine};
use crate::mailbox::Mailbox;
use crate::runner::{self, Runner, sweep_abandoned};
use cairn_shared::clock::Clock;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What the keeper has not heard yet. Its senders wait beyond that.
pub(super) const MAX_WAITING_EVENTS: usize = 256;

/// Runs a keeper to its end, in this thread and those that it makes.
///
/// # Errors
/// It cannot begin, or its journal fails.
pub fn run(settings: Settings, reload: Reload, clock: Clock) -> Result<Ended, KeeperError> {
    run_with(settings, reload, clock, mpsc::channel(MAX_WAITING_EVENTS))
}

/// The same with a channel that others may speak into.
pub(super) fn run_with(
    settings: Settings,
    reload: Reload,
    clock: Clock,
    events: Events,
) -> Result<Ended, KeeperError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(KeeperError::Setup)?.block_on(run_here(settings, reload, clock, events))
}

/// Both ends of what the keeper hears.
pub(super) type Events = (mpsc::Sender<Event>, mpsc::Receiver<Event>);

async fn run_here(
    settings: Settings,
    reload: Reload,
    clock: Clock,
    (events_in, events): Events,
) -> Result<Ended, KeeperError> {
    for directory in [&settings.directory, &settings.workspace] {
        let failed = |source| KeeperError::Directory { path: directory.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let _lock = Lock::of_keeper(&settings.directory, &settings.command_line)?;
    if !settings.launch.is_here() {
        // Signals from here on: whoever is asked to end while it still begins ends in good order.
        hear_signals(&events_in).map_err(KeeperError::Setup)?;
    }
    end_leftovers(&settings, &clock);
    let (core, journal, fresh) = open(&settings, &clock)?;
    let done = {
        let events = events_in.clone();
        move |result: Result<_, JournalError>| drop(events.blocking_send(Event::Written(result)))
    };
    let scribe = Scribe::start(journal, clock.clone(), done).map_err(KeeperError::Setup)?;
    let mailbox = Arc::new(Mailbox::default());
    let runner = start_runner(&settings, &clock, &mailbox);
    let held: Vec<LogName> = core.held_logs();
    let logs = Logs::open(logs(&settings.directory), settings.logs_limit, |name| held.contains(name));
    let parts = Parts { settings, clock, core, runner, scribe, logs, mailbox, events: events_in, reload };
    Keeper::new(parts, fresh).run(events).await
}

fn hear_signals(events: &mpsc::Sender<Event>) -> io::Result<()> {
    let kinds = [
        (SignalKind::terminate(), (|| Event::Terminate) as fn() -> Event),
        (SignalKind::interrupt(), || Event::Terminate),
        (SignalKind::hangup(), || Event::Reload),
    ];
    for (kind, event) in kinds {
        let (mut signal, events) = (signal(kind)?, events.clone());
        tokio::spawn(
            async move { while signal.recv().await.is_some() && events.send(event()).await.is_ok() {} },
        );
    }
    Ok(())
}

fn marker(settings: &Settings) -> (String, String) {
    (MARKER.to_owned(), settings.directory.to_string_lossy().into_owned())
}

/// Ends what a keeper before us has left.
fn end_leftovers(settings: &Settings, clock: &Clock) {
    let marker = marker(settings);
    let clock = clock.clone();
    let clock: runner::Clock = Arc::new(move || clock.now());
    let left = runner::end_leftovers((&marker.0, &marker.1), settings.grace, &clock);
    if !left.is_empty() {
        tracing::warn!(processes = left.len(), "ended what was left of an earlier keeper's tasks");
    }
    sweep_abandoned(&settings.directory.join("work"));
}

fn start_runner(settings: &Settings, clock: &Clock, mailbox: &Arc<Mailbox>) -> Runner {
    let (clock, mailbox) = (clock.clone(), mailbox.clone());
    Runner::new(runner::Settings {
        slots: settings.slots,
        marker: marker(settings),
        withheld: settings.withheld.clone(),
        work_root: settings.directory.join("work"),
        clock: Arc::new(move || clock.now()),
        events: Arc::new(move |event| mailbox.put(event)),
    })
}

/// What is known of earlier lives, with what is to be recorded first.
fn open(settings: &Settings, clock: &Clock) -> Result<(Core, Journal, Vec<Record>), KeeperError> {
    let (journal, opened) = Journal::open(&settings.directory.join("journal"))?;
    let (records, is_new) = match opened {
        Opened::New => (Vec::new(), true),
        Opened::Damaged { kept_as, at } => {
            tracing::error!(
                at,
                kept_as = %kept_as.display(),
                "the journal is damaged: this agent begins a new life, and its attempts are lost"
            );
            (Vec::new(), true)
        }
        Opened::Records { records, cut_bytes } => {
            if cut_bytes > 0 {
                tracing::info!(bytes = cut_bytes, "cut what a crash had left at the end of the journal");
            }
            (records, false)
        }
    };
    let known = match records.first() {
        Some(Record::Life { format, agent, incarnation }) if *format == FORMAT && *agent == settings.id => {
            Some(*incarnation)
        }
        Some(Record::Life { format, agent, .. }) => {
            let whose = format!("the agent `{agent}`, in format {format}");
            return Err(KeeperError::Foreign { directory: settings.directory.clone(), whose });
        }
        _ => None,
    };
    let incarnation = match known {
        Some(incarnation) => incarnation,
        None => next_incarnation(&settings.directory, clock)?,
    };
    let capacity = Capacity {
        slots: settings.slots.get(),
        backlog: settings.backlog as usize,
        timers: settings.timers as usize,
        resources: settings.resources.iter().map(|&(_, amount)| amount).collect(),
    };
    let mut core = Core::new(Machine::of_fleet(capacity), job_maker(settings), incarnation);
    let fresh = match is_new || known.is_none() {
        true => core.snapshot(),
        false => Vec::new(),
    };
    core.restore(records, clock.now());
    Ok((core, journal, fresh))
}

/// What makes jobs of offers.
pub(super) fn job_maker(settings: &Settings) -> JobMaker {
    JobMaker {
        agent: settings.id.clone(),
        workspace: settings.workspace.clone(),
        directory: settings.directory.clone(),
        grace: settings.grace,
        resources: settings.resources.clone(),
        hold: settings.hold,
    }
}

/// A number above that of each earlier life: the wall clock's microseconds, or one more than the last. It stands beside
/// the journal, whose loss it survives.
fn next_incarnation(directory: &Path, clock: &Clock) -> Result<u64, KeeperError> {
    let path = directory.join("incarnation");
    let last: u64 = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let incarnation = u64::try_from(clock.now().0).unwrap_or(0).max(last + 1);
    let new = path.with_extension("new");
    let written = || {
        let mut file = fs::File::create(&new)?;
        writeln!(file, "{incarnation}")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(directory)?.sync_all()
    };
    written().map_err(|source| KeeperError::Directory { path, source })?;
    Ok(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_model::Timestamp;

    #[test]
    fn each_life_has_a_higher_number_even_if_the_clock_was_set_back() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::start(Timestamp(0));
        let first = next_incarnation(directory.path(), &clock).unwrap();
        assert!(first > 1_500_000_000_000_000);
        let ahead = first + 1_000_000_000_000;
        fs::write(directory.path().join("incarnation"), ahead.to_string()).unwrap();
        assert_eq!(next_incarnation(directory.path(), &clock).unwrap(), ahead + 1);
        assert_eq!(next_incarnation(directory.path(), &clock).unwrap(), ahead + 2);
    }
}
