//! `cairn pause`, `resume`, `cancel` and `retry`: wishes about a run or a part of it.

use crate::client::{self, Body};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::style::Style;
use cairn_coordinator::http::model::{ActionBody, ActionRequest};
use reqwest::Method;

/// What a wish is about, and why.
#[derive(Debug, clap::Args)]
pub struct PartArgs {
    /// The run, `apollo.3` (or `apollo` for its newest), or a part of it: `apollo.3/build`, `apollo.3/build/unit`
    #[arg(value_name = "RUN[/MILESTONE[/TASK]]", value_parser = target)]
    target: Target,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Start nothing more of a run, a milestone or a task; what runs goes on
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub struct PauseArgs {
    #[command(flatten)]
    part: PartArgs,
}

const PAUSE_EXAMPLES: &str = "\
Examples:
  cairn pause apollo.3
  cairn pause apollo.3/ship --reason 'the release is put off'";

/// Go on with what was paused
#[derive(Debug, clap::Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub struct ResumeArgs {
    #[command(flatten)]
    part: PartArgs,
}

const RESUME_EXAMPLES: &str = "\
Examples:
  cairn resume apollo.3
  cairn resume apollo.3/ship";

/// Stop a run, a milestone or a task for good
#[derive(Debug, clap::Args)]
#[command(after_help = CANCEL_EXAMPLES)]
pub struct CancelArgs {
    #[command(flatten)]
    part: PartArgs,
}

const CANCEL_EXAMPLES: &str = "\
Examples:
  cairn cancel apollo.3 --reason 'wrong branch'
  cairn cancel apollo.3/build/unit";

/// Run again what failed
#[derive(Debug, clap::Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub struct RetryArgs {
    #[command(flatten)]
    part: PartArgs,
    /// Only this task: `build/unit`
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// And all that needs it
    #[arg(long)]
    downstream: bool,
}

const RETRY_EXAMPLES: &str = "\
Examples:
  cairn retry apollo.3                                  all that failed
  cairn retry apollo.3 --task build/unit --downstream";

/// A run, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    run: String,
    milestone: Option<String>,
    task: Option<String>,
}

fn target(text: &str) -> Result<Target, String> {
    let mut parts = text.split('/');
    let (run, milestone, task) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let is_whole = |part: Option<&str>| part.is_none_or(|part| !part.is_empty());
    if run.is_empty() || !is_whole(milestone) || !is_whole(task) || parts.next().is_some() {
        return Err("write it as RUN, RUN/MILESTONE or RUN/MILESTONE/TASK".to_owned());
    }
    Ok(Target { run: run.to_owned(), milestone: milestone.map(str::to_owned), task: task.map(str::to_owned) })
}

/// Runs `cairn pause`.
pub fn pause(args: &PauseArgs, context: &Context) -> Result<Exit, Failure> {
    wish("pause", &args.part, ActionRequest::default(), context)
}

/// Runs `cairn resume`.
pub fn resume(args: &ResumeArgs, context: &Context) -> Result<Exit, Failure> {
    wish("resume", &args.part, ActionRequest::default(), context)
}

/// Runs `cairn cancel`.
pub fn cancel(args: &CancelArgs, context: &Context) -> Result<Exit, Failure> {
    wish("cancel", &args.part, ActionRequest::default(), context)
}

/// Runs `cairn retry`.
pub fn retry(args: &RetryArgs, context: &Context) -> Result<Exit, Failure> {
    if args.task.is_some() && args.part.target.milestone.is_some() {
        return Err(Failure::new(Exit::Usage, "the task is named twice")
            .help("write RUN/MILESTONE/TASK, or RUN --task MILESTONE/TASK"));
    }
    let request =
        ActionRequest { task: args.task.clone(), downstream: args.downstream, ..ActionRequest::default() };
    wish("retry", &args.part, request, context)
}

fn wish(action: &str, part: &PartArgs, request: ActionRequest, context: &Context) -> Result<Exit, Failure> {
    let Target { run, milestone, task } = part.target.clone();
    let request =
        ActionRequest { reason: part.reason.clone(), milestone, task: task.or(request.task), ..request };
    let client = client::required(context)?;
    let body = Body::json(&request)?;
    let done: ActionBody =
        client::block_on(client.write(Method::POST, &["runs", &run, action], &[], Some(&body), None))?;
    if context.format == Format::Text {
        print_text(&format!("{} {}\n", done.run, Style::stdout(context).state(done.status)))?;
    } else {
        print_value(context, &done)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_behind_its_run() {
        let read = |text: &str| {
            target(text).map(|target| {
                let part = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
                format!("{} {} {}", target.run, part(target.milestone), part(target.task))
            })
        };
        assert_eq!(read("apollo.3").as_deref(), Ok("apollo.3 - -"));
        assert_eq!(read("apollo/build").as_deref(), Ok("apollo build -"));
        assert_eq!(read("apollo.3/build/unit").as_deref(), Ok("apollo.3 build unit"));
        for wrong in ["", "/build", "apollo/", "apollo/build/", "apollo//unit", "apollo/a/b/c"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
