//! `cairn schema`: the JSON Schema of plans, for editors.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::print_value;

/// Print the JSON Schema of plans, for editors
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

const EXAMPLES: &str = "\
Examples:
  cairn schema > plan.schema.json
  # yaml-language-server: $schema=plan.schema.json    as the first line of a plan, for editors";

/// Runs the command.
pub fn execute(_: &Args, context: &Context) -> Result<Exit, Failure> {
    print_value(context, &cairn_shared::plan::json_schema())?;
    Ok(Exit::Done)
}
