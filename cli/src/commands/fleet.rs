//! `cairn agents`: the fleet.

use crate::client::{self, Body};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{Stdout, print_text, print_value};
use crate::style::{Cell, Paint, Style, duration, table};
use crate::view;
use cairn_agent::runner::harmless;
use cairn_coordinator::http::model::{AgentBody, AgentList, DrainBody, DrainRequest};
use reqwest::Method;
use std::time::Duration;

/// Show the agents of the fleet, and drain them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give an agent nothing new; what it runs goes on
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain {
        /// The agent
        id: String,
        /// Give it work again
        #[arg(long)]
        undo: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  cairn agents
  cairn agents drain builder-1
  cairn agents --output json | jq '[.agents[].slots] | add'";

const DRAIN_EXAMPLES: &str = "\
Examples:
  cairn agents drain builder-1
  cairn agents drain builder-1 --undo";

/// Attempts of an agent that are named to people.
const MAX_NAMED: usize = 2;

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        None => list(context),
        Some(Command::Drain { id, undo }) => drain(id, !undo, context),
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let client = client::required(context)?;
    let list: AgentList = client::block_on(client.get(&["agents"], &[]))?;
    match context.format {
        Format::Text if list.agents.is_empty() => {
            view::note(context, "there are no agents yet: `cairn agent` starts one");
        }
        Format::Text => print_text(&text(&list.agents, &Style::stdout(context)))?,
        Format::Jsonl => {
            let mut out = Stdout::new();
            out.list(Format::Jsonl, &list.agents)?;
            out.flush()?;
        }
        Format::Json | Format::Yaml => print_value(context, &list)?,
    }
    Ok(Exit::Done)
}

fn text(agents: &[AgentBody], style: &Style) -> String {
    let head = ["AGENT", "STATE", "SLOTS", "LABELS", "RUNS", "HEARD"];
    let mut rows = vec![head.map(|name| Cell::new(name).paint(Paint::Dim)).to_vec()];
    rows.extend(agents.iter().map(|agent| {
        let heard = Duration::try_from_secs_f64(agent.heard_seconds_ago).unwrap_or(Duration::MAX);
        let labels: Vec<_> = agent.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            Cell::new(one_line(&agent.id)),
            state(&agent.state, style),
            Cell::right(format!("{}/{}", agent.slots_used, agent.slots)),
            Cell::new(one_line(&labels.join(" "))),
            Cell::new(one_line(&attempts(&agent.attempts))),
            Cell::new(format!("{} ago", duration(heard))).paint(Paint::Dim),
        ]
    }));
    table(style, "", &rows)
}

/// The state of an agent: glyph and word.
fn state(state: &str, style: &Style) -> Cell {
    let (glyph, ascii, paint) = match state {
        "joined" => ("✔", "+", Paint::Good),
        "draining" => ("⏸", "=", Paint::Warn),
        "silent" => ("○", ".", Paint::Warn),
        "lost" => ("✖", "x", Paint::Bad),
        "left" => ("–", "-", Paint::Dim),
        _ => ("?", "?", Paint::Plain),
    };
    Cell::new(format!("{} {}", style.choose(glyph, ascii), one_line(state))).paint(paint)
}

fn attempts(attempts: &[String]) -> String {
    let named = attempts.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match attempts.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// What agents say of themselves cannot steer the terminal.
fn one_line(text: &str) -> String {
    harmless(text.as_bytes()).replace(['\n', '\t'], " ")
}

fn drain(id: &str, drain: bool, context: &Context) -> Result<Exit, Failure> {
    let client = client::required(context)?;
    let body = Body::json(&DrainRequest { drain })?;
    let path = ["agents", id, "drain"];
    let done: DrainBody = client::block_on(client.write(Method::POST, &path, &[], Some(&body), None))?;
    if context.format == Format::Text {
        let told = if done.drain { "is given nothing new" } else { "is given work again" };
        print_text(&format!("{} {told}\n", one_line(&done.agent)))?;
    } else {
        print_value(context, &done)?;
    }
    Ok(Exit::Done)
}
