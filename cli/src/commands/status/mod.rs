//! `cairn status`: where a run stands.
//!
//! ```text
//! state directory ─▶ local  ─┐
//!                            ├─▶ page ─▶ text
//! coordinator     ─▶ remote ─┘
//! ```

mod local;
mod page;
mod remote;

use crate::client;
use crate::commands::at::at;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use cairn_coordinator::projection::At;

/// Show where a run stands
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest; may be left out if there is but one project
    run: Option<String>,
    /// Show it as it was: at a position of the log, a time (`2026-12-01T12:00:00Z`), or so long ago (`-10m`)
    #[arg(long, value_name = "POSITION|TIME", value_parser = at, allow_hyphen_values = true)]
    at: Option<At>,
    /// Show all milestones and tasks
    #[arg(long)]
    all: bool,
    /// End like the run: 0 completed, 1 tasks failed, 6 cancelled, 7 has not ended, 8 unplaceable
    #[arg(long)]
    exit_status: bool,
}

const EXAMPLES: &str = "\
Examples:
  cairn status
  cairn status apollo.3 --all
  cairn status apollo.3 --at 412
  cairn status apollo --output json | jq .progress
  cairn status apollo --exit-status && ./release.sh";

/// Tasks, and milestones, that are shown without `--all`.
const MAX_ROWS: usize = 20;

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match client::named(context)? {
        Some(client) => client::block_on(remote::execute(args, &client, context)),
        None => local::execute(args, context),
    }
}
