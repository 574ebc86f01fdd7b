//! Logs of a run of a coordinator.
//!
//! What is there comes log by log. What is followed comes as it is written: the run's events tell which attempts begin,
//! and each has a stream of its own until it is complete.

use super::printer::{Piece, Printer};
use super::{Args, form};
use crate::client::{Client, EventStream, LogStream, reads};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::state_directory::nearest;
use crate::style::Style;
use crate::view;
use cairn_coordinator::http::model::{StatusBody, TaskRow};
use cairn_engine::TaskStatus;
use futures_util::StreamExt as _;
use futures_util::stream::SelectAll;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};

/// Logs that are followed at a time: half of the streams that one token may have open.
const MAX_STREAMS: usize = 50;

/// Which tasks are asked for.
enum Selection {
    All,
    Milestone(String),
    Task(String),
}

impl Selection {
    fn wants(&self, task: &str) -> bool {
        match self {
            Self::All => true,
            Self::Milestone(wanted) => task.split_once('/').is_some_and(|(milestone, _)| milestone == wanted),
            Self::Task(wanted) => task == wanted,
        }
    }
}

/// Runs the command.
pub async fn execute(args: &Args, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let (mut status, from) = reads::status(client, &args.run, true).await?;
    let selection = select(args.task.as_deref(), &status)?;
    let mut tasks = status.tasks.take().unwrap_or_default();
    tasks.retain(|task| selection.wants(&task.id));
    let is_one = matches!(selection, Selection::Task(_));
    let width = tasks.iter().filter(|task| task.attempt > 0).map(|task| task.id.len()).max().unwrap_or(0);
    let printer = Printer::new(form(context, is_one), args.tail, width, Style::stdout(context));
    // In the order of their start, as far as that is known.
    let mut started: Vec<_> = tasks.iter().filter(|task| task.attempt > 0).collect();
    started.sort_by(|one, other| one.started_at.cmp(&other.started_at));
    let mut logs = Logs { client, run: status.run.clone(), attempt: args.attempt, printer };
    if args.follow {
        follow(&mut logs, &status, from, &selection, &started).await?;
        return Ok(Exit::Done);
    }
    let mut is_empty = true;
    for task in &started {
        is_empty &= logs.whole(&task.id).await?.is_none_or(|log| log.1 == 0);
    }
    logs.printer.finish(&status.run)?;
    if is_empty {
        let one = tasks.first().filter(|_| is_one);
        view::note(context, &one.map_or_else(|| "nothing was written".to_owned(), nothing));
    }
    Ok(Exit::Done)
}

/// Why a task has nothing to show.
fn nothing(task: &TaskRow) -> String {
    match task.attempt {
        0 => format!("{} has not been started: it is {}", task.id, task.status.name()),
        _ => format!("{} wrote nothing that could be shown", task.id),
    }
}

/// Finds what a user names: a task by `milestone/task`, or by its id where that is enough; or a milestone.
fn select(name: Option<&str>, status: &StatusBody) -> Result<Selection, Failure> {
    let Some(name) = name else { return Ok(Selection::All) };
    let tasks = || status.tasks.iter().flatten().map(|task| task.id.as_str());
    if tasks().any(|task| task == name) {
        return Ok(Selection::Task(name.to_owned()));
    }
    if status.milestones.iter().any(|milestone| milestone.id == name) {
        return Ok(Selection::Milestone(name.to_owned()));
    }
    let has_id = |task: &&str| task.split_once('/').is_some_and(|(_, id)| id == name);
    let found: Vec<_> = tasks().filter(has_id).take(2).collect();
    match found[..] {
        [task] => Ok(Selection::Task(task.to_owned())),
        [first, second, ..] => Err(Failure::new(Exit::Usage, format!("several tasks are called {name}"))
            .help(format!("say which: {first} or {second}"))),
        [] => {
            let message = format!("{} has no task {}", status.run, name.escape_debug());
            let failure = Failure::new(Exit::NotFound, message);
            Err(match nearest(name, tasks()) {
                Some(near) => failure.help(format!("did you mean `{near}`?")),
                None => failure.help("a task is named `milestone/task`"),
            })
        }
    }
}

/// Prints logs of a run.
struct Logs<'a> {
    client: &'a Client,
    run: String,
    /// The attempt that is asked for.
    attempt: Option<u32>,
    printer: Printer,
}

/// A log that is followed; hands itself back with what came, and an empty piece at its end.
type Followed<'a> = Pin<Box<dyn futures_util::Stream<Item = (usize, Result<Vec<u8>, Failure>)> + 'a>>;

impl<'a> Logs<'a> {
    /// Prints the log that is there: that of the attempt which is asked for, else of the newest one that wrote
    /// something. Gives the attempt, and how many bytes it has; `None` if there is no such attempt.
    async fn whole(&mut self, task: &str) -> Result<Option<(u32, u64)>, Failure> {
        let attempt = self.attempt.map(|attempt| attempt.to_string());
        let tail = self.printer.tail().map(|tail| tail.to_string());
        let mut query = Vec::new();
        query.extend(attempt.as_deref().map(|attempt| ("attempt", attempt)));
        query.extend(tail.as_deref().map(|tail| ("tail", tail)));
        let mut log = LogStream::new(self.client, &self.run, task, &query);
        let attempt = match log.open().await {
            Ok(attempt) => attempt,
            Err(failure) if failure.exit == Exit::NotFound => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut piece = Piece::new(task, attempt);
        while let Some(bytes) = log.next().await? {
            self.printer.feed(&mut piece, &bytes, false)?;
        }
        if log.received() > 0 {
            self.printer.feed(&mut piece, b"", true)?;
        }
        Ok(Some((attempt, log.received())))
    }

    /// Prints the last lines of what an attempt has written so far, and gives how many bytes that was.
    async fn so_far(
        &mut self,
        piece: &mut Piece,
        task: &str,
        attempt: u32,
        tail: usize,
    ) -> Result<u64, Failure> {
        let attempt = attempt.to_string();
        let mut log = LogStream::new(self.client, &self.run, task, &[("attempt", &attempt)]);
        log.open().await?;
        let mut lines: VecDeque<Vec<u8>> = VecDeque::new();
        while let Some(bytes) = log.next().await? {
            for part in bytes.split_inclusive(|&byte| byte == b'\n') {
                match lines.back_mut().filter(|line| !line.ends_with(b"\n")) {
                    Some(line) => line.extend_from_slice(part),
                    None => lines.push_back(part.to_vec()),
                }
                if lines.len() > tail {
                    lines.pop_front();
                }
            }
        }
        for line in lines {
            self.printer.feed(piece, &line, false)?;
        }
        self.printer.out.flush()?;
        Ok(log.received())
    }

    /// The stream of an attempt's log behind the first `skip` bytes.
    fn followed(&self, at: usize, task: &str, attempt: u32, skip: u64) -> Followed<'a> {
        let attempt = attempt.to_string();
        let query = [("attempt", attempt.as_str()), ("follow", "true")];
        let log = LogStream::new(self.client, &self.run, task, &query).skip(skip);
        let stream = futures_util::stream::unfold(Some(log), move |log| async move {
            let mut log = log?;
            match log.next().await {
                Ok(Some(bytes)) => Some(((at, Ok(bytes)), Some(log))),
                Ok(None) => Some(((at, Ok(Vec::new())), None)),
                Err(failure) => Some(((at, Err(failure)), None)),
            }
        });
        Box::pin(stream)
    }
}

/// An attempt that is waiting for a stream: the task, the attempt, and what was printed of it.
type Waiting = (String, u32, u64);

/// Prints what is there, then what comes, until the run, or the one task, has ended.
async fn follow(
    logs: &mut Logs<'_>,
    status: &StatusBody,
    from: u64,
    selection: &Selection,
    started: &[&TaskRow],
) -> Result<(), Failure> {
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut streams: SelectAll<Followed<'_>> = SelectAll::new();
    for task in started {
        known.insert(task.id.clone(), task.attempt);
        let runs = matches!(task.status, TaskStatus::Dispatched | TaskStatus::InProgress);
        if runs && logs.attempt.is_none_or(|wanted| wanted == task.attempt) {
            waiting.push_back((task.id.clone(), task.attempt, 0));
        } else {
            logs.whole(&task.id).await?;
        }
    }
    logs.printer.out.flush()?;
    let events = EventStream::new(logs.client, &logs.run, from);
    // As a stream it goes on where it was while logs come.
    let events = futures_util::stream::unfold(events, async |mut events| Some((events.next().await, events)));
    let mut events = pin!(events);
    let mut is_over = status.status.is_final() || has_ended(logs.client, &logs.run, selection).await?;
    let mut tail = logs.printer.tail();
    loop {
        while streams.len() < MAX_STREAMS
            && let Some((task, attempt, _)) = waiting.pop_front()
        {
            let mut piece = Piece::new(&task, attempt);
            let skip = match tail {
                Some(lines) => logs.so_far(&mut piece, &task, attempt, lines).await?,
                None => 0,
            };
            streams.push(logs.followed(pieces.len(), &task, attempt, skip));
            pieces.push(piece);
        }
        if is_over && streams.is_empty() && waiting.is_empty() {
            return logs.printer.out.flush();
        }
        tokio::select! {
            Some((at, bytes)) = streams.next() => {
                let bytes = bytes?;
                logs.printer.feed(&mut pieces[at], &bytes, bytes.is_empty())?;
                logs.printer.out.flush()?;
            }
            Some(event) = events.next(), if !is_over => {
                let Some(event) = event? else {
                    is_over = true;
                    continue;
                };
                let event = event.body(logs.client)?;
                // Of what starts from now on all is shown.
                tail = None;
                let data = |name: &str| event.event_data.get(name);
                let Some(task) = data("task").and_then(Value::as_str).filter(|task| selection.wants(task)) else {
                    continue;
                };
                if event.event_type == "TaskDispatched" {
                    let attempt = data("attempt").and_then(Value::as_u64).unwrap_or(0);
                    let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
                    let newest = known.entry(task.to_owned()).or_default();
                    if attempt > *newest {
                        *newest = attempt;
                        if logs.attempt.is_none_or(|wanted| wanted == attempt) {
                            waiting.push_back((task.to_owned(), attempt, 0));
                        }
                    }
                } else if matches!(selection, Selection::Task(_)) {
                    is_over = has_ended(logs.client, &logs.run, selection).await?;
                }
            }
            // The last stream has just ended.
            else => {}
        }
    }
}

/// Whether the one task that is asked for has ended.
async fn has_ended(client: &Client, run: &str, selection: &Selection) -> Result<bool, Failure> {
    let Selection::Task(task) = selection else { return Ok(false) };
    let Some((milestone, id)) = task.split_once('/') else { return Ok(false) };
    let task: TaskRow = client.get(&["runs", run, "tasks", milestone, id], &[]).await?;
    Ok(task.status.is_final())
}
