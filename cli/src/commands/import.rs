//! `cairn import`: a plan of what another system has. It is printed as a plan is written, whatever `--output` says.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::print_text;
use cairn_shared::plan::import::{MAX_IMPORT_BYTES, Runner, WfCommonsOptions, text_of, wfcommons};
use clap::ValueEnum;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Print a plan of a workflow of another system
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the file is: wfcommons
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    from: Source,
    /// Multiply the recorded durations by this
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    scale: f64,
    /// What tasks do for so long: a process that sleeps, or a timer of the agent
    #[arg(long, value_enum, default_value_t = Runs::Sleep, value_name = "sleep|wait", hide_possible_values = true)]
    runner: Runs,
    /// The project's id [default: made from the workflow's name]
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// The file, also packed with gzip; `-` reads stdin
    file: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  cairn import --from wfcommons montage.json > plan.yaml
  cairn import --from wfcommons --scale 0.01 --runner wait montage.json.gz | cairn run -";

/// The formats of the contract. All can be named; most are not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    Wfcommons,
    Psplib,
    Stg,
    Argo,
    GithubActions,
    Msproject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runs {
    Sleep,
    Wait,
}

/// Runs the command.
pub fn execute(args: &Args, _: &Context) -> Result<Exit, Failure> {
    if args.from != Source::Wfcommons {
        let name =
            args.from.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        return Err(Failure::new(Exit::Usage, format!("importing from {name} is not there yet"))
            .help("this release imports wfcommons"));
    }
    let name = if is_stdin(&args.file) { "stdin".to_owned() } else { args.file.display().to_string() };
    let bytes = read(&args.file).map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
        Failure::new(exit, format!("cannot read {name}: {error}"))
    })?;
    let wrong = |error: &dyn std::error::Error| {
        let cause = Failure::because(Exit::Usage, error);
        Failure::new(Exit::Usage, format!("cannot import {name}: {cause}"))
    };
    let text = text_of(&bytes, MAX_IMPORT_BYTES).map_err(|error| wrong(&error))?;
    let runner = match args.runner {
        Runs::Sleep => Runner::Sleep,
        Runs::Wait => Runner::Wait,
    };
    let options = WfCommonsOptions { scale: args.scale, runner, project: args.project.as_deref() };
    let plan = wfcommons(&text, &options).map_err(|error| wrong(&error))?;
    print_text(&plan)?;
    Ok(Exit::Done)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // One byte more than there may be shows that it is too much.
    let limit = MAX_IMPORT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if is_stdin(path) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
