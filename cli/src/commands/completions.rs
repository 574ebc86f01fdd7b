//! `cairn completions`: what a shell needs to complete the command line.

use crate::arguments::Arguments;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  source <(cairn completions bash)
  cairn completions zsh > ~/.zfunc/_cairn
  cairn completions fish > ~/.config/fish/completions/cairn.fish";

/// Runs the command.
pub fn execute(args: &Args, _: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "cairn", &mut script);
    let mut out = Stdout::new();
    out.bytes(&script)?;
    out.flush()?;
    Ok(Exit::Done)
}
