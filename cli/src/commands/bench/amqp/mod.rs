//! `cairn bench amqp`: this deployment over a broker, end to end: a coordinator and an agent as processes, each with its
//! durable log, and tasks that start no process.
//!
//! ```text
//!   this process ──HTTP──▶ cairn coordinator ◀──broker──▶ cairn agent (keeper and child)
//!        └── reads the log: from the moment of submission to that of the last event
//! ```
//!
//! The broker's own figures are measured before and after, with nothing of ours in the way ([`broker`]).

mod broker;
mod fleet;

use super::workload::{self, Shape, Work};
use super::{Args, Row, limit};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use broker::{Broker, Carried};
use cairn_shared::transport::amqp::BrokerUrl;
use fleet::Fleet;
use std::path::Path;
use std::time::Duration;

/// Tasks of the run that is not measured: connections are made and programs are loaded when it has ended.
const WARM_UP_TASKS: u32 = 200;

/// Processes whose way from ready to started is looked at.
const LATENCY_TASKS: u32 = 100;

/// Between two of them, so that nothing waits behind anything.
const LATENCY_PAUSE: Duration = Duration::from_millis(10);

/// Messages of a measurement of the broker.
const MESSAGES: u32 = 10_000;

/// The kinds of queues of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum QueueType {
    /// On one node of the broker
    #[default]
    Classic,
    /// On several nodes
    Quorum,
}

impl QueueType {
    /// As the broker and the configuration call it.
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// Runs the measurements.
pub fn execute(args: &Args, context: &Context, directory: &Path) -> Result<Exit, Failure> {
    let url = args.transport.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "no broker is named")
            .help("name one with --transport amqp://USER:PASSWORD@HOST/VHOST or CAIRN_TRANSPORT")
    })?;
    // Whatever is wrong with it is told without its password.
    url.parse::<BrokerUrl>().map_err(|error| Failure::because(Exit::Usage, &error))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(
            |error| Failure::new(Exit::OutOfReach, format!("cannot set up an event loop: {error}")),
        )?;
    let broker = runtime.block_on(Broker::connect(url, args.queue_type))?;
    let result = runtime.block_on(broker.refuse_a_fleet()).and_then(|()| {
        let result = measure(args, directory, url, &runtime, &broker);
        runtime.block_on(broker.remove_fleet());
        result
    });
    runtime.block_on(broker.remove_own());
    print(context, &result?)?;
    Ok(Exit::Done)
}

fn measure(
    args: &Args,
    directory: &Path,
    url: &str,
    runtime: &tokio::runtime::Runtime,
    broker: &Broker,
) -> Result<Vec<Row>, Failure> {
    // First: while the broker still writes what it was given, syncs wait for it.
    let file = |name: &str| directory.join(name);
    let sync = limit::sync(&file("synced"), Duration::ZERO)?;
    let paced_sync = limit::sync(&file("synced-paced"), LATENCY_PAUSE)?;
    let single = runtime.block_on(broker.through(MESSAGES))?;
    let ping_pong = runtime.block_on(broker.ping_pong(MESSAGES, Carried::Task))?;
    let batched = runtime.block_on(broker.ping_pong(MESSAGES / 10, Carried::Batch))?;
    let alone = runtime.block_on(broker.round_trip(Duration::ZERO))?;
    let paced = runtime.block_on(broker.round_trip(LATENCY_PAUSE))?;
    let mut rows = vec![
        raw("broker, a message a task, one queue", MESSAGES, single),
        raw("broker, a message a task, there and back", MESSAGES, ping_pong),
        raw("broker, 100 tasks in 20 KB, there and back", MESSAGES * 10, batched),
        raw("broker, one message at a time, there and back", 1, 1.0 / alone.as_secs_f64()),
        raw("broker, one message every 10 ms, there and back", 1, 1.0 / paced.as_secs_f64()),
        raw("disk, one sync at a time", 1, 1.0 / sync.as_secs_f64()),
        raw("disk, one sync every 10 ms", 1, 1.0 / paced_sync.as_secs_f64()),
    ];

    let fleet = Fleet::start(directory, url, args.queue_type)?;
    fleet.run(&workload::plan(WARM_UP_TASKS, Shape::Independent, Work::Nothing))?;
    fleet.is_alone()?;
    let shapes = match args.shape {
        Some(shape) => vec![shape],
        None => vec![Shape::Independent, Shape::Layered],
    };
    for shape in shapes {
        let times = fleet.run(&workload::plan(args.tasks, shape, Work::Nothing))?;
        let limit = "broker, 100 tasks in 20 KB, there and back";
        let row = Row::new(name(shape), args.tasks, times.took(), limit, batched);
        rows.push(Row { peak_rss_bytes: fleet.peak_rss_bytes(), ..row });
    }
    let times = fleet.run(&workload::paced(LATENCY_TASKS, LATENCY_PAUSE))?;
    let limit = "half of the broker's way there and back, and two syncs, each after 10 ms";
    // At the pace of the tasks: a machine that has idled is slower than one that is busy, whoever uses it. Before and
    // after, because its speed drifts.
    let paced = (paced + runtime.block_on(broker.round_trip(LATENCY_PAUSE))?) / 2;
    let paced_sync = (paced_sync + limit::sync(&file("synced-again"), LATENCY_PAUSE)?) / 2;
    let least = paced / 2 + paced_sync * 2;
    let row = Row::new("amqp, ready to started", 1, times.median_start(), limit, 1.0 / least.as_secs_f64());
    rows.push(Row { peak_rss_bytes: fleet.peak_rss_bytes(), ..row });
    Ok(rows)
}

fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::Independent => "amqp, independent",
        Shape::Chain => "amqp, chain",
        Shape::Layered => "amqp, layered",
    }
}

/// A row of the broker alone: its own limit.
fn raw(name: &'static str, tasks: u32, per_second: f64) -> Row {
    let took = Duration::from_secs_f64(f64::from(tasks) / per_second);
    Row::new(name, tasks, took, "itself", per_second)
}

fn print(context: &Context, rows: &[Row]) -> Result<(), Failure> {
    if context.format != crate::context::Format::Text {
        let mut out = output::Stdout::new();
        out.list(context.format, rows)?;
        return out.flush();
    }
    let mut text = String::new();
    for row in rows {
        let line = match row.tasks {
            1 => format!("{}: {:.3} ms", row.name, row.seconds * 1e3),
            _ => format!("{}: {:.0} tasks a second", row.name, row.tasks_per_second),
        };
        text.push_str(&line);
        if row.limit != "itself" {
            text.push_str(&format!("\n    ratio {:.3} to: {}", row.ratio, row.limit));
        }
        text.push('\n');
    }
    output::print_text(&text)
}
