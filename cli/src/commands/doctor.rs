//! `cairn doctor`: is everything as it should be, from here to the fleet? Each finding says what to do.

mod local;
mod remote;

use crate::client::{self, Client};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{Stdout, print_text, print_value};
use crate::style::{Cell, Paint, Style, table};
use cairn_agent::runner::harmless;
use serde::Serialize;

/// Look for what is wrong, from here to the fleet
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

const EXAMPLES: &str = "\
Examples:
  cairn doctor
  cairn doctor --profile prod
  cairn doctor --output json | jq '.checks[] | select(.result != \"ok\")'

Exit codes: 0 nothing is wrong (there may be warnings), 1 something is, 5 the coordinator is out of reach.";

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and asks for attention.
    Warn,
    /// It does not work.
    Fail,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    result: Verdict,
    message: String,
    /// What to do.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), result: Verdict::Ok, message: message.into(), remedy: None }
    }

    fn warn(name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Verdict::Warn, remedy: Some(remedy.into()), ..Self::ok(name, message) }
    }

    fn fail(name: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { result: Verdict::Fail, remedy: Some(remedy.into()), ..Self::ok(name, message) }
    }

    /// A check that could not even be made.
    fn failed(name: &str, failure: Failure) -> Self {
        let remedy = failure.help.unwrap_or_else(|| "see `cairn doctor --help`".to_owned());
        Self::fail(name, failure.message, remedy)
    }
}

#[derive(Serialize)]
struct Report {
    /// Nothing is wrong.
    healthy: bool,
    version: &'static str,
    checks: Vec<Check>,
}

/// Runs the command.
pub fn execute(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut checks = local::checks(context);
    let is_reached = match client::required(context) {
        Ok(client) => client::block_on(reach(&client.at_once(), &mut checks))?,
        Err(failure) => {
            let exit = failure.exit;
            checks.push(Check::failed("coordinator", failure));
            exit != Exit::OutOfReach
        }
    };
    let healthy = checks.iter().all(|check| check.result != Verdict::Fail);
    let report = Report { healthy, version: env!("CARGO_PKG_VERSION"), checks };
    match context.format {
        Format::Text => print_text(&text(&report.checks, &Style::stdout(context)))?,
        Format::Json | Format::Yaml => print_value(context, &report)?,
        Format::Jsonl => {
            let mut out = Stdout::new();
            out.list(Format::Jsonl, &report.checks)?;
            out.flush()?;
        }
    }
    Ok(match (is_reached, healthy) {
        (false, _) => Exit::OutOfReach,
        (true, true) => Exit::Done,
        (true, false) => Exit::Failed,
    })
}

/// Makes the checks that need the coordinator; whether it answered.
async fn reach(client: &Client, checks: &mut Vec<Check>) -> Result<bool, Failure> {
    let before = checks.len();
    remote::checks(client, checks).await;
    Ok(checks.get(before).is_some_and(|first| first.result != Verdict::Fail))
}

fn text(checks: &[Check], style: &Style) -> String {
    let rows = checks.iter().map(|check| {
        let (glyph, ascii, word, paint) = match check.result {
            Verdict::Ok => ("✔", "+", "ok", Paint::Good),
            Verdict::Warn => ("!", "!", "warn", Paint::Warn),
            Verdict::Fail => ("✖", "x", "fail", Paint::Bad),
        };
        let message = harmless(check.message.as_bytes()).replace(['\n', '\t'], " ");
        vec![
            Cell::new(format!("{} {word}", style.choose(glyph, ascii))).paint(paint),
            Cell::new(harmless(check.name.as_bytes())),
            Cell::new(message),
        ]
    });
    let mut out = table(style, "", &rows.collect::<Vec<_>>());
    let troubled = checks.iter().filter(|check| check.result != Verdict::Ok);
    for check in troubled {
        if let Some(remedy) = &check.remedy {
            let remedy = harmless(remedy.as_bytes()).replace('\n', " ");
            out.push_str(&format!("{} {}: {remedy}\n", style.paint(Paint::Busy, "help:"), check.name));
        }
    }
    out
}
