//! `cairn config`: what is in force, and who chose it.

use crate::arguments::Global;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::settings::{Coordinator, Origin, Setting, Settings, TOKEN_VARIABLE, TokenSource};
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

A flag goes before a variable (CAIRN_STATE, CAIRN_STORE, CAIRN_STORE_FILE, CAIRN_OUTPUT_FORMAT, CAIRN_COLOR, CAIRN_JOBS,
CAIRN_URL, CAIRN_PROFILE, CAIRN_TOKEN, CAIRN_TOKEN_FILE), that before the project's file (.cairn.yaml in the working directory or
the nearest one above), that before the user's ($XDG_CONFIG_HOME/cairn/config.yaml, or ~/.config/cairn/config.yaml).

Coordinators are named in the user's file:
  profile: dev
  profiles:
    dev: {url: http://127.0.0.1:7420}
    prod: {url: https://cairn.example.org, token_file: prod.token}";

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

fn rows(settings: &Settings) -> Vec<(&'static str, Value, Origin)> {
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
    let Settings { state, store, output, color, jobs, coordinator, token } = settings;
    let named = |part: fn(&Coordinator) -> Option<&String>| {
        move |value: &Option<Coordinator>| json!(value.as_ref().and_then(part))
    };
    vec![
        row("state", state, |path| json!(path.to_string_lossy())),
        row("store", store, |url| json!(url)),
        row("output", output, |value| json!(word(value))),
        row("color", color, |value| json!(word(value))),
        row("jobs", jobs, |jobs| json!(jobs)),
        row("profile", coordinator, named(|coordinator| coordinator.profile.as_ref())),
        row("url", coordinator, named(|coordinator| Some(&coordinator.url))),
        row("token", token, |token| match token {
            // The token itself is shown to nobody.
            Some(TokenSource::Variable) => json!({"variable": TOKEN_VARIABLE}),
            Some(TokenSource::File(path)) => json!({"file": path}),
            None => Value::Null,
        }),
    ]
}

fn text(rows: &[(&str, Value, Origin)], origin: bool, style: &Style) -> String {
    let rows = rows.iter().map(|(name, value, from)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Null => nothing_said(name).to_owned(),
            Value::Object(source) => match source.iter().next() {
                Some((kind, Value::String(place))) => format!("of {kind} {place}"),
                _ => value.to_string(),
            },
            other => other.to_string(),
        };
        let from = if origin { from.to_string() } else { String::new() };
        vec![Cell::new(*name), Cell::new(value), Cell::new(from).paint(Paint::Dim)]
    });
    table(style, "", &rows.collect::<Vec<_>>())
}

/// What is in force where nothing is said.
fn nothing_said(name: &str) -> &'static str {
    match name {
        "store" => "that of the state directory",
        "jobs" => "one for each core",
        "url" => "the coordinator of the state directory",
        "token" => "admin.token of the state directory",
        _ => "none",
    }
}
