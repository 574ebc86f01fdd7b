//! Logs while they are written.

use super::printer::Printer;
use super::{Logs, Selection};
use crate::exit::Failure;
use crate::state_directory::Follower;
use cairn_coordinator::runtime::LoadedRun;
use cairn_coordinator::store::EventReader;
use cairn_engine::State;
use cairn_model::{Event, TaskIndex};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How often is looked whether there is more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// An attempt that may still write.
struct Open {
    name: String,
    attempt: u32,
    path: PathBuf,
    offset: u64,
}

/// What happened to the log of a task.
enum Change {
    Started(TaskIndex, u32),
    Ended(TaskIndex),
}

/// Prints what is there, then what comes, until the run, or the one task, has ended.
pub fn follow(
    reader: Box<dyn EventReader>,
    run: LoadedRun,
    selection: &Selection,
    logs: &Logs,
    tasks: &[TaskIndex],
    mut printer: Printer,
) -> Result<(), Failure> {
    let mut follower = Follower::new(reader, run);
    let mut open = BTreeMap::new();
    begin(&follower.state, logs, tasks, &mut open, &mut printer)?;
    loop {
        let mut changes = Vec::new();
        follower.poll(|state, event| changes.extend(change(state, event, selection)))?;
        for change in changes {
            match change {
                Change::Started(task, attempt) => {
                    if logs.attempt.is_none_or(|wanted| wanted == attempt) {
                        open.insert(task, opened(&follower.state, logs, task, attempt));
                    }
                }
                // What an attempt wrote is in its log before its end is told.
                Change::Ended(task) => {
                    if let Some(mut ended) = open.remove(&task) {
                        read(&mut ended, &mut printer, true)?;
                    }
                }
            }
        }
        let has_ended = has_ended(&follower.state, selection);
        for attempt in open.values_mut() {
            read(attempt, &mut printer, has_ended)?;
        }
        printer.out.flush()?;
        if has_ended {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Prints the logs that are there; those of attempts that run are kept open.
fn begin(
    state: &State,
    logs: &Logs,
    tasks: &[TaskIndex],
    open: &mut BTreeMap<TaskIndex, Open>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    for &task in tasks {
        let row = state.task(task);
        let runs = row.status.is_out();
        let found = logs.find(state, task);
        let (attempt, offset) = match found {
            Some((attempt, path)) => (attempt, printer.whole(&state.plan().task_name(task), attempt, &path)?),
            None => (row.attempt, 0),
        };
        if runs && logs.attempt.is_none_or(|wanted| wanted == row.attempt) {
            let offset = if attempt == row.attempt { offset } else { 0 };
            open.insert(task, Open { offset, ..opened(state, logs, task, row.attempt) });
        }
    }
    Ok(())
}

fn opened(state: &State, logs: &Logs, task: TaskIndex, attempt: u32) -> Open {
    let path = logs.path(state.plan(), task, attempt);
    Open { name: state.plan().task_name(task), attempt, path, offset: 0 }
}

fn read(open: &mut Open, printer: &mut Printer, to_end: bool) -> Result<(), Failure> {
    open.offset = printer.from(&open.name, open.attempt, &open.path, open.offset, to_end)?;
    Ok(())
}

fn change(state: &State, event: &Event, selection: &Selection) -> Option<Change> {
    let change = match event {
        Event::TaskDispatched { task, attempt, .. } => Change::Started(*task, *attempt),
        Event::TaskCompleted { task, .. }
        | Event::TaskFailed { task, .. }
        | Event::TaskRetryScheduled { task, .. }
        | Event::LeaseExpired { task, .. }
        | Event::TaskCancelled { task, .. } => Change::Ended(*task),
        _ => return None,
    };
    let (Change::Started(task, _) | Change::Ended(task)) = change;
    (state.plan().takes_slot(task) && selection.wants(state.plan(), task)).then_some(change)
}

fn has_ended(state: &State, selection: &Selection) -> bool {
    let task = selection.one();
    state.run().status.is_final() || task.is_some_and(|task| state.task(task).status.is_final())
}
