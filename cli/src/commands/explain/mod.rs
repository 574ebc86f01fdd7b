//! `cairn explain`: why things are as they are: the critical path, the score, why a task waits.

mod overview;
mod remote;
mod size;
mod task;

use crate::client;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::plan_file;
use crate::state_directory::{find, load, open};
use cairn_engine::State;
use cairn_model::Plan;
use std::path::Path;
use std::sync::Arc;

/// Explain a plan or a run: critical path, score, why a task waits
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A plan (a file, or `-` for stdin), or a run: `apollo.3`, or `apollo` for its newest
    #[arg(value_name = "PLAN|RUN")]
    subject: String,
    /// `scale`, `storage`, `pattern`, or a task such as `build/unit` [default: the critical path]
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// The value of a parameter of the plan; may be given several times
    #[arg(long = "param", value_name = "K=V", value_parser = plan_file::parameter)]
    params: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  cairn explain plan.yaml                  critical path, widest level, what tasks ask for
  cairn explain apollo ship/publish        why it is (not) running
  cairn explain apollo scale               the score and its terms";

/// What is explained.
struct Subject {
    /// How it is called: a file, or a run.
    name: String,
    /// The run; of a plan one that nothing has happened in.
    state: State,
    /// Whether there is a run.
    is_run: bool,
    /// Log and outputs of the run, in bytes.
    data_bytes: Option<u64>,
}

impl Subject {
    fn plan(&self) -> &Plan {
        self.state.plan()
    }
}

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let topic = args.topic.as_deref();
    let is_size = matches!(topic, Some("scale" | "storage" | "pattern"));
    if !is_plan(&args.subject)
        && let Some(client) = client::named(context)?
    {
        client::block_on(remote::explain(&args.subject, topic, is_size, &client, context))?;
        return Ok(Exit::Done);
    }
    let subject = if is_plan(&args.subject) { of_plan(args)? } else { of_run(args, context, is_size)? };
    match topic {
        None => overview::explain(&subject, context)?,
        Some(topic) if is_size => size::explain(&subject, topic, context)?,
        Some(name) => task::explain(&subject, name, context)?,
    }
    Ok(Exit::Done)
}

/// A file goes before a run of the same name; what looks like a path is one.
pub(super) fn is_plan(subject: &str) -> bool {
    let path = Path::new(subject);
    let looks_like_file =
        ["yaml", "yml", "json"].iter().any(|end| path.extension().is_some_and(|is| is == *end));
    subject == "-" || subject.contains('/') || looks_like_file || path.is_file()
}

fn of_plan(args: &Args) -> Result<Subject, Failure> {
    let file = plan_file::read(Path::new(&args.subject), &args.params)?;
    let state = State::new(Arc::new(file.plan), Arc::new(file.graph));
    Ok(Subject { name: file.name, state, is_run: false, data_bytes: None })
}

fn of_run(args: &Args, context: &Context, with_size: bool) -> Result<Subject, Failure> {
    let reader = open(context)?;
    let run = load(context, &*reader, &find(&*reader, Some(&args.subject))?)?;
    let name = run.submitted.run.clone();
    let data_bytes = with_size.then(|| size::data_bytes(&*reader, &context.state, &name)).transpose()?;
    Ok(Subject { name, state: run.state, is_run: true, data_bytes })
}
