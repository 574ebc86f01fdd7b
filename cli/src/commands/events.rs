//! `cairn events`: events as they are stored, one JSON value a line, whatever `--output` says but `yaml`.

use crate::client::{self, Client, EventStream};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::Stdout;
use crate::state_directory::{find, open, unreadable};
use cairn_coordinator::codec::{StoredEvent, expand};
use cairn_coordinator::runtime::belongs;
use cairn_coordinator::store::{Cursor, EventReader, StoredRecord};
use cairn_model::RunId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// Print events as they are stored, one JSON value a line
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest; all events of the state directory without one
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

/// Events of a page: as many as a coordinator gives at most.
const PAGE: &str = "10000";
/// How often is looked whether there is more.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    match client::named(context)? {
        Some(client) => client::block_on(remote(args, &client, context)),
        None => local(args, context),
    }
}

/// A page of events whose text stays as it is.
#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: u64,
    has_more: bool,
}

async fn remote(args: &Args, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let Some(run) = &args.run else {
        return Err(Failure::new(Exit::Usage, "a coordinator shows the events of one run: say which")
            .help("`cairn list` shows all runs"));
    };
    let mut out = Stdout::new();
    let is_yaml = context.format == Format::Yaml;
    let mut from = args.from;
    loop {
        let query = [("from", &*from.to_string()), ("limit", PAGE)];
        let page: Page = client.get(&["runs", run, "events"], &query).await?;
        page.events.iter().try_for_each(|event| print(&mut out, is_yaml, event))?;
        out.flush()?;
        // A page that leads nowhere would be read for ever.
        if !page.has_more || page.next <= from {
            from = page.next.max(from);
            break;
        }
        from = page.next;
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    let mut events = EventStream::new(client, run, from);
    while let Some(event) = events.next().await? {
        let value: Box<RawValue> = RawValue::from_string(event.text)
            .map_err(|error| Failure::new(Exit::OutOfReach, format!("an event is no JSON: {error}")))?;
        print(&mut out, is_yaml, &value)?;
        out.flush()?;
    }
    Ok(Exit::Done)
}

fn print(out: &mut Stdout, is_yaml: bool, event: &impl Serialize) -> Result<(), Failure> {
    if is_yaml {
        out.text("---\n")?;
        out.value(Format::Yaml, event)
    } else {
        out.json_line(event)
    }
}

fn local(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let reader = open(context)?;
    let mut printer = Printer {
        out: Stdout::new(),
        run: args.run.as_deref().map(|name| resolve(&*reader, name)).transpose()?,
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

fn resolve(reader: &dyn EventReader, name: &str) -> Result<String, Failure> {
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
                printed = print(&mut self.out, self.yaml, event);
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
}

fn is_end(event: &StoredEvent<'_>) -> bool {
    matches!(event.event_type, "RunCompleted" | "RunFailed" | "RunCancelled")
}
