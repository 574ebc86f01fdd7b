//! The commands, one a module: what they take (`Args`), and what they do (`execute`).

mod bench;
mod completions;
mod config;
mod graph;
mod import;
mod run;
mod schema;
mod validate;

use crate::arguments::Global;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// What cairn can be asked for.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Run(run::Args),
    Validate(validate::Args),
    Graph(graph::Args),
    Import(import::Args),
    Schema(schema::Args),
    Bench(bench::Args),
    Config(config::Args),
    Completions(completions::Args),
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
        Command::Import(args) => import::execute(args, context),
        Command::Schema(args) => schema::execute(args, context),
        Command::Bench(args) => bench::execute(args, context),
        Command::Config(args) => config::execute(args, global, context),
        Command::Completions(args) => completions::execute(args, context),
    }
}
