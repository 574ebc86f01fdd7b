//! The commands, one a module: what they take (`Args`), and what they do (`execute`).

mod act;
mod agent;
mod at;
mod bench;
mod completions;
mod config;
mod coordinator;
mod daemon;
mod doctor;
mod events;
mod explain;
mod fleet;
mod graph;
mod import;
mod list;
mod logs;
mod run;
mod schema;
mod status;
mod submit;
mod token;
mod validate;
mod watch;

use crate::arguments::Global;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// What cairn can be asked for.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Run(run::Args),
    Validate(validate::Args),
    Graph(graph::Args),
    Submit(submit::Args),
    Watch(watch::Args),
    Status(status::Args),
    List(list::Args),
    Logs(logs::Args),
    Events(events::Args),
    Explain(explain::Args),
    History(list::HistoryArgs),
    Pause(act::PauseArgs),
    Resume(act::ResumeArgs),
    Cancel(act::CancelArgs),
    Retry(act::RetryArgs),
    Agents(fleet::Args),
    Token(token::Args),
    Doctor(doctor::Args),
    Import(import::Args),
    Schema(schema::Args),
    Coordinator(coordinator::Args),
    Agent(agent::Args),
    Bench(bench::Args),
    Config(config::Args),
    Completions(completions::Args),
}

impl Command {
    /// Whether it stays in the foreground and has a log of its own.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Self::Coordinator(_) | Self::Agent(_))
    }
}

/// Does what was asked for.
///
/// # Errors
/// It could not be done.
pub fn execute(command: &Command, global: &Global, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::execute(args, context),
        Command::Validate(args) => validate::execute(args, context),
        Command::Graph(args) => graph::execute(args, context),
        Command::Status(args) => status::execute(args, context),
        Command::List(args) => list::execute(args, context),
        Command::Logs(args) => logs::execute(args, context),
        Command::Explain(args) => explain::execute(args, context),
        Command::Events(args) => events::execute(args, context),
        Command::History(args) => list::history(args, context),
        Command::Submit(args) => submit::execute(args, context),
        Command::Watch(args) => watch::execute(args, context),
        Command::Pause(args) => act::pause(args, context),
        Command::Resume(args) => act::resume(args, context),
        Command::Cancel(args) => act::cancel(args, context),
        Command::Retry(args) => act::retry(args, context),
        Command::Agents(args) => fleet::execute(args, context),
        Command::Token(args) => {
            let is_direct = global.state.is_some() && global.url.is_none() && global.profile.is_none();
            token::execute(args, is_direct, context)
        }
        Command::Doctor(args) => doctor::execute(args, context),
        Command::Import(args) => import::execute(args, context),
        Command::Schema(args) => schema::execute(args, context),
        Command::Coordinator(args) => coordinator::execute(args, global, context),
        Command::Agent(args) => agent::execute(args, global, context),
        Command::Bench(args) => bench::execute(args, context),
        Command::Config(args) => config::execute(args, global, context),
        Command::Completions(args) => completions::execute(args, context),
    }
}
