//! `cairn config`: what is in force, and who chose it.

use crate::arguments::Global;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::settings::{Origin, Setting, Settings};
use crate::style::{Cell, Paint, Style, table};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// Look at the settings in force
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what is in force
    #[command(after_help = EXAMPLES)]
    Show {
        /// Show who chose each value
        #[arg(long)]
        origin: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  cairn config show --origin
  cairn config show --output json

A flag goes before a variable (CAIRN_STATE, CAIRN_OUTPUT_FORMAT, CAIRN_COLOR, CAIRN_JOBS), that before the
project's file (.cairn.yaml in the working directory or the nearest one above), that before the user's
($XDG_CONFIG_HOME/cairn/config.yaml, or ~/.config/cairn/config.yaml).";

/// Runs the command.
pub fn execute(args: &Args, global: &Global, context: &Context) -> Result<Exit, Failure> {
    let Command::Show { origin } = args.command;
    let rows = rows(&global.settings()?);
    if context.format == Format::Text {
        print_text(&text(&rows, origin, &Style::stdout(context)))?;
    } else {
        let entry = |(name, value, from): &(&str, Value, Origin)| {
            let value = if origin { json!({"value": value, "origin": from}) } else { value.clone() };
            ((*name).to_owned(), value)
        };
        print_value(context, &rows.iter().map(entry).collect::<Map<_, _>>())?;
    }
    Ok(Exit::Done)
}

fn rows(settings: &Settings) -> [(&'static str, Value, Origin); 4] {
    fn word(value: &impl ValueEnum) -> String {
        value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
    fn row<T>(
        name: &'static str,
        setting: &Setting<T>,
        value: impl Fn(&T) -> Value,
    ) -> (&'static str, Value, Origin) {
        (name, value(&setting.value), setting.origin.clone())
    }
    let Settings { state, output, color, jobs } = settings;
    [
        row("state", state, |path| json!(path.to_string_lossy())),
        row("output", output, |value| json!(word(value))),
        row("color", color, |value| json!(word(value))),
        row("jobs", jobs, |jobs| json!(jobs)),
    ]
}

fn text(rows: &[(&str, Value, Origin)], origin: bool, style: &Style) -> String {
    let rows = rows.iter().map(|(name, value, from)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null => "one for each core".to_owned(),
            other => other.to_string(),
        };
        let from = if origin { from.to_string() } else { String::new() };
        vec![Cell::new(*name), Cell::new(value), Cell::new(from).paint(Paint::Dim)]
    });
    table(style, "", &rows.collect::<Vec<_>>())
}
