//! `cairn watch`: a run of a coordinator, live, to its end. The same view as that of `cairn run`.

use crate::client::{self, Client, EventStream, reads};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_value, say};
use crate::style::{self, Style, count, grouped};
use crate::view::{RemoteView, has_picture};
use cairn_agent::runner::harmless;
use cairn_coordinator::http::model::StatusBody;
use cairn_engine::{RunStatus, TaskStatus};
use cairn_model::{FailureKind, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::plan::parse_duration;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Watch a run of a coordinator to its end
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest
    run: String,
    /// Wait no longer than this, and end with 7
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

const EXAMPLES: &str = "\
Examples:
  cairn watch apollo
  cairn watch apollo.3 && ./release.sh
  cairn watch apollo.3 --timeout 30m
  cairn watch apollo --output json | jq .counts

Ends like the run: 0 completed, 1 tasks failed, 6 cancelled, 8 a task could never run; 7 waited too long.
Ctrl-C ends the watching and not the run.";

/// Failed tasks told of in full; the rest is counted.
const MAX_FAILURES: usize = 10;

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = client::required(context)?;
    client::block_on(async {
        let exit = to_end(&client, context, &args.run, true, args.timeout).await?;
        if context.format != Format::Text {
            let status: Value = client.get(&["runs", &args.run], &[]).await?;
            print_value(context, &status)?;
        }
        Ok(exit)
    })
}

/// Waits until a run has ended, and says on stderr how. Ends as the run did.
///
/// # Errors
/// The coordinator is out of reach for too long, or refuses.
pub async fn to_end(
    client: &Client,
    context: &Context,
    run: &str,
    shows: bool,
    timeout: Option<Duration>,
) -> Result<Exit, Failure> {
    // Lines tell of changes only; a picture has to know where each task stands.
    let (status, from) = reads::status(client, run, shows && has_picture()).await?;
    let run = status.run.clone();
    if status.status.is_final() {
        return ended(client, context, &status).await;
    }
    let no_signals =
        |error: std::io::Error| Failure::new(Exit::OutOfReach, format!("cannot hear of signals: {error}"));
    let mut interrupted = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut view = shows.then(|| RemoteView::start(context, &status, Clock::start(Timestamp(0))));
    let left_alone = |why: &str| say(&format!("{why}; {run} goes on: `cairn watch {run}` shows it again"));
    let waited = tokio::select! {
        status = follow(client, (&status, from), view.as_mut()) => Ok(status),
        _ = interrupted.recv() => Err(("interrupted", Exit::Interrupted)),
        _ = terminated.recv() => Err(("terminated", Exit::Interrupted)),
        () = until(timeout) => Err(("waited long enough", Exit::TimedOut)),
    };
    if let Some(view) = view {
        view.finish();
    }
    match waited {
        Ok(status) => ended(client, context, &status?).await,
        Err((why, exit)) => {
            left_alone(why);
            Ok(exit)
        }
    }
}

async fn until(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// Takes events in until the run has ended, and gives its status then.
async fn follow(
    client: &Client,
    (status, from): (&StatusBody, u64),
    mut view: Option<&mut RemoteView>,
) -> Result<StatusBody, Failure> {
    let mut events = EventStream::new(client, &status.run, from);
    loop {
        match events.next().await? {
            Some(event) => {
                if let Some(view) = &mut view {
                    view.take(&event.body(client)?);
                }
            }
            None => {
                let status = reads::status(client, &status.run, false).await?.0;
                // It may have been begun again since.
                if status.status.is_final() {
                    return Ok(status);
                }
            }
        }
    }
}

async fn ended(client: &Client, context: &Context, status: &StatusBody) -> Result<Exit, Failure> {
    let failed = if status.status == RunStatus::Failed || count_of(status, TaskStatus::Failed) > 0 {
        reads::tasks(client, &status.run, Some(TaskStatus::Failed), usize::MAX).await?
    } else {
        Vec::new()
    };
    let style = Style::stderr(context);
    let mut out = String::new();
    for task in failed.iter().take(MAX_FAILURES) {
        let attempt = if task.attempt > 1 { format!(" (attempt {})", task.attempt) } else { String::new() };
        let error = task.error.as_ref().map_or("", |error| &error.message);
        let error = harmless(error.trim_end().as_bytes());
        let _ = writeln!(out, "{} {}{attempt}: {error}", style.state(TaskStatus::Failed), task.id);
    }
    if failed.len() > MAX_FAILURES {
        let more = grouped((failed.len() - MAX_FAILURES) as u64);
        let _ = writeln!(out, "and {more} more failed: cairn status {} --all", status.run);
    }
    say(&format!("{out}{}", summary(status, &style)));
    let is_unplaceable = failed
        .iter()
        .filter_map(|task| task.error.as_ref())
        .any(|error| error.kind == FailureKind::Unplaceable.name());
    Ok(exit_of(status.status, is_unplaceable))
}

/// How a command ends that is to end like the run; 7, if it has not ended.
pub fn exit_of(status: RunStatus, is_unplaceable: bool) -> Exit {
    match status {
        RunStatus::Completed => Exit::Done,
        RunStatus::Cancelled => Exit::Cancelled,
        RunStatus::Failed if is_unplaceable => Exit::Unplaceable,
        RunStatus::Failed => Exit::Failed,
        RunStatus::Absent | RunStatus::Active | RunStatus::Paused => Exit::TimedOut,
    }
}

fn count_of(status: &StatusBody, of: TaskStatus) -> u64 {
    status.counts.get(of.name()).copied().unwrap_or(0)
}

/// `apollo.3 ✔ completed in 3m05s: 40 of 42 tasks completed, 2 failed`.
fn summary(status: &StatusBody, style: &Style) -> String {
    let at = |text: &str| Timestamp::parse(text);
    let took = status.finished_at.as_deref().and_then(at).zip(at(&status.submitted_at));
    let took = took.map(|(end, begin)| format!(" in {}", style::duration(end.since(begin))));
    let total = count(status.counts.values().sum(), "task", "tasks");
    let completed = grouped(count_of(status, TaskStatus::Completed));
    let mut out = format!(
        "{} {}{}: {completed} of {total} completed",
        status.run,
        style.state(status.status),
        took.unwrap_or_default()
    );
    for of in [TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled] {
        if count_of(status, of) > 0 {
            let _ = write!(out, ", {} {}", grouped(count_of(status, of)), of.name());
        }
    }
    out
}
