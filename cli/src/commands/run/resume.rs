//! Which run `--resume` continues.

use super::Args;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::plan_file::PlanFile;
use crate::state_directory::not_loaded;
use cairn_coordinator::insight::differences;
use cairn_coordinator::projection::{MilestoneFiles, StatusView};
use cairn_coordinator::runtime::{LoadError, LoadedRun, Update, find_run, load_run};
use cairn_coordinator::store::{StoreUrl, open_reader};
use cairn_engine::RunStatus;
use std::path::Path;
use std::time::Duration;

/// Differences between two plans that are shown.
const MAX_DIFFERENCES: usize = 20;

/// What there is to continue.
pub enum Found {
    /// Nothing was asked for, or the project has no run yet.
    Nothing,
    /// The newest run has not ended.
    Unfinished(Box<LoadedRun>),
    /// The newest run has ended; that has been said.
    Finished(Exit),
}

/// Looks for the project's newest run.
///
/// # Errors
/// The log cannot be read, or the plan is another one.
pub fn find(
    args: &Args,
    context: &Context,
    file: &PlanFile,
    state_directory: &Path,
    url: &StoreUrl,
) -> Result<Found, Failure> {
    if !args.resume {
        return Ok(Found::Nothing);
    }
    let unreadable = |error: &dyn std::error::Error| Failure::because(Exit::OutOfReach, error);
    let reader = open_reader(url).map_err(|error| unreadable(&error))?;
    let newest = match find_run(&*reader, &file.plan.project) {
        Ok(newest) => newest,
        Err(LoadError::NoSuchRun { .. }) => return Ok(Found::Nothing),
        Err(error) => return Err(unreadable(&error)),
    };
    let run = load_run(state_directory, &*reader, &newest, None).map_err(|error| not_loaded(&error))?;
    let name = newest.run.to_string();
    match run.state.run().status {
        RunStatus::Completed => {
            output::say(&format!("{name} is completed; nothing is left to do"));
            finish_files(state_directory, &run);
            if context.format != Format::Text {
                output::print_value(context, &StatusView::new(&run.state))?;
            }
            return Ok(Found::Finished(Exit::Done));
        }
        status @ (RunStatus::Failed | RunStatus::Cancelled) => {
            let exit = if status == RunStatus::Failed { Exit::Failed } else { Exit::Cancelled };
            let message = format!("{name} has ended: {}; there is nothing to continue", status.name());
            return Err(
                Failure::new(exit, message).help("start a new run with the same command without --resume")
            );
        }
        RunStatus::Absent | RunStatus::Active | RunStatus::Paused => {}
    }
    let changes = differences(&run.plan, &file.plan);
    if changes.is_empty() {
        return Ok(Found::Unfinished(Box::new(run)));
    }
    let mut message = format!("{} is not the plan that {name} was started with:", file.name);
    for change in changes.iter().take(MAX_DIFFERENCES) {
        message.push_str("\n  ");
        message.push_str(change);
    }
    if changes.len() > MAX_DIFFERENCES {
        message.push_str(&format!("\n  and {} more", changes.len() - MAX_DIFFERENCES));
    }
    Err(Failure::new(Exit::Usage, message)
        .help("undo the change to continue, or start a new run of the changed plan without --resume"))
}

/// A process that died between the end of its run and the end of its files left these behind as they were.
fn finish_files(state_directory: &Path, run: &LoadedRun) {
    if state_directory.join("active").join(&run.submitted.run).is_dir() {
        let mut files = MilestoneFiles::new(state_directory, &run.submitted.run, &run.state);
        files.observe(&Update {
            state: &run.state,
            events: &[],
            at: run.state.last_event_at(),
            position: run.position,
            append_took: Duration::ZERO,
            stale_reports: 0,
        });
    }
}
