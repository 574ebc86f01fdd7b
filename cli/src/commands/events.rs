//! `cairn events`: events as they are stored, one JSON value a line, whatever `--output` says but `yaml`.

use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use crate::state_directory::{find, open, unreadable};
use cairn_coordinator::codec::{StoredEvent, expand};
use cairn_coordinator::runtime::belongs;
use cairn_coordinator::store::file::LogReader;
use cairn_coordinator::store::{Cursor, StoredRecord};
use cairn_model::RunId;
use std::time::Duration;

/// Print events as they are stored, one JSON value a line
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest; all events without one
    run: Option<String>,
    /// Go on with what is still to come, until the run has ended
    #[arg(long, short)]
    follow: bool,
    /// Begin with the event at this position; the first is 1
    #[arg(long, value_name = "POSITION", default_value_t = 1, hide_default_value = true)]
    from: u64,
}

const EXAMPLES: &str = "\
Examples:
  cairn events apollo.3
  cairn events apollo --follow
  cairn events --from 1000 | jq -c 'select(.event_type == \"TaskFailed\")'";

/// How often is looked whether there is more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let reader = open(context)?;
    let mut printer = Printer {
        out: Stdout::new(),
        run: args.run.as_deref().map(|name| resolve(&reader, name)).transpose()?,
        from: args.from,
        yaml: context.format == Format::Yaml,
        has_ended: false,
    };
    let mut cursor = Cursor::all(args.from);
    loop {
        let page = reader.read(&mut cursor).map_err(|error| unreadable(&error))?;
        page.iter().try_for_each(|record| printer.record(record))?;
        if !page.is_empty() {
            continue;
        }
        printer.out.flush()?;
        if !args.follow || printer.has_ended {
            return Ok(Exit::Done);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn resolve(reader: &LogReader, name: &str) -> Result<String, Failure> {
    find(reader, Some(name)).map(|summary| summary.run.to_string())
}

struct Printer {
    out: Stdout,
    run: Option<String>,
    from: u64,
    yaml: bool,
    has_ended: bool,
}

impl Printer {
    fn record(&mut self, record: &StoredRecord) -> Result<(), Failure> {
        let stream = record.stream.as_str();
        if self.run.as_deref().is_some_and(|run| !belongs(stream, run)) {
            return Ok(());
        }
        let is_of_run = RunId::parse(stream).is_some();
        let mut printed = Ok(());
        let expanded = expand(record, |event| {
            // What is followed is one run: its end is the end.
            if is_of_run && self.run.is_some() && is_end(event) {
                self.has_ended = true;
            }
            if event.position >= self.from && printed.is_ok() {
                printed = self.event(event);
            }
        });
        printed?;
        expanded.map_err(|error| {
            let position = record.position;
            Failure::new(
                Exit::OutOfReach,
                format!("the event at position {position} is no record of events: {error}"),
            )
        })
    }

    fn event(&mut self, event: &StoredEvent<'_>) -> Result<(), Failure> {
        if self.yaml {
            self.out.text("---\n")?;
            self.out.value(Format::Yaml, event)
        } else {
            self.out.json_line(event)
        }
    }
}

fn is_end(event: &StoredEvent<'_>) -> bool {
    matches!(event.event_type, "RunCompleted" | "RunFailed" | "RunCancelled")
}
