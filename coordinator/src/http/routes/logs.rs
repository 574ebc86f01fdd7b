//! What a task wrote: the log of one attempt, as it is or as it grows.
//!
//! Bytes are passed on as they came; whoever shows them on a terminal makes them harmless. A followed log ends when its
//! attempt has ended and the log is complete. One that is not followed is what is there now; of an attempt that has just
//! ended all of it, so that whoever has seen a run end finds its output.

use super::tasks::find;
use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Path, Query};
use crate::http::followers::Place;
use crate::http::limits::{KEEP_ALIVE, LOG_BLOCK_BYTES, LOG_GRACE, LOG_POLL, LOG_SETTLES, MAX_TAIL_LINES};
use crate::http::model::ProblemBody;
use crate::http::problem::{Problem, ProblemKind};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cairn_model::Timestamp;
use futures_util::stream;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::IntoParams;

/// What of a log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct LogsQuery {
    /// Which attempt; the newest that wrote something, if it is left out. A log that is followed: the newest.
    attempt: Option<u32>,
    /// Go on until the attempt has ended; wait for its start, if there is none yet.
    follow: Option<bool>,
    /// Only the last lines, at most 1,000,000.
    tail: Option<usize>,
}

/// The log of a task
///
/// What the attempt wrote, byte for byte. The header `Cairn-Attempt` tells which attempt it is.
#[utoipa::path(get, path = "/api/v1/runs/{run}/tasks/{milestone}/{task}/logs", tag = "tasks",
    operation_id = "get_task_log",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        ("milestone" = String, Path, description = "Its milestone; `main`, if the plan has none.", example = "build"),
        ("task" = String, Path, description = "Its id; `#` is written `%23`.", example = "compile"), LogsQuery),
    responses((status = 200, description = "The log.", body = String, content_type = "text/plain",
            headers(("Cairn-Attempt" = u32, description = "Which attempt."))),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((run, milestone, task)): Path<(String, String, String)>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let follow = query.follow.unwrap_or(false);
    if query.tail.is_some_and(|lines| lines > MAX_TAIL_LINES) {
        let help = "leave `tail` out to have all of it";
        return Err(Problem::invalid(format!("`tail` is more than {MAX_TAIL_LINES} lines"), help));
    }
    let head = api.parts.handle.head();
    let subject = api.look(&run.text, move |state| {
        let index = find(state, &milestone, &task)?;
        let milestone = state.plan().milestone(state.plan().milestone_of(index)).id.clone();
        Ok::<_, Problem>(Subject {
            run: state.run().id.clone(),
            name: state.plan().task_name(index),
            // From the plan, whose ids are of a strict form: no path can be made of them.
            file: PathBuf::from(milestone).join(state.plan().task_id(index)),
            prints: state.plan().takes_slot(index),
        })
    });
    let subject = subject.await??;
    let mut log = Log { head, api, subject, file: None, offset: 0, is_out: false, ended_at: None };
    let now = log.standing().await?;
    if !follow && !now.is_out {
        log.settle(query.attempt.unwrap_or(now.attempt).min(now.attempt)).await?;
    }
    let attempt = log.choose(now, query.attempt, follow)?;
    let place = if follow { Some(log.api.followers.enter(&caller.token)?) } else { None };
    let mut headers = vec![(header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned())];
    headers.extend(attempt.map(|attempt| ("cairn-attempt", attempt.to_string())));
    if let Some(attempt) = attempt
        && let Some(lines) = query.tail
    {
        log.skip_to_tail(attempt, lines).await?;
    }
    let sender = Sender { log, attempt, follow: place.map(|place| (caller, place)) };
    let chunks = stream::unfold(sender, async |mut sender| {
        let chunk = sender.next().await.transpose()?;
        Some((chunk, sender))
    });
    let mut response = Body::from_stream(chunks).into_response();
    for (name, value) in headers {
        let value = value.parse().map_err(|_| Problem::internal())?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// A task, and where its logs are.
struct Subject {
    run: String,
    name: String,
    /// Below the directory of the run, without attempt and ending.
    file: PathBuf,
    /// It is a process; what waits or only stands for others has no output.
    prints: bool,
}

/// Where the task stands.
#[derive(Clone, Copy)]
struct Standing {
    attempt: u32,
    /// The attempt is with an agent.
    is_out: bool,
    /// Nothing will happen to the task any more.
    is_over: bool,
    /// When the newest attempt ended, by the clock of its agent.
    ended_at: Option<Timestamp>,
}

/// A log that is read.
struct Log {
    api: Api,
    subject: Subject,
    head: watch::Receiver<u64>,
    file: Option<File>,
    offset: u64,
    /// The attempt was with an agent when that was asked last.
    is_out: bool,
    /// When the attempt ended; where that is not known, when it was first seen to have ended.
    ended_at: Option<Timestamp>,
}

impl Log {
    fn path(&self, attempt: u32) -> PathBuf {
        let name = self.subject.file.file_name().unwrap_or_default().to_string_lossy();
        let directory = self.api.parts.state_directory.join("logs").join(&self.subject.run);
        directory.join(self.subject.file.with_file_name(format!("{name}.{attempt}.log")))
    }

    /// Where the task stands now.
    async fn standing(&mut self) -> Result<Standing, Problem> {
        self.head.borrow_and_update();
        let name = self.subject.name.clone();
        let standing = self.api.look(&self.subject.run, move |state| {
            let row = state.task(state.plan().find_task_name(&name)?);
            let (is_out, is_over) =
                (row.status.is_out(), row.status.is_final() || state.run().status.is_final());
            let ended_at = (row.attempt > 0 && !is_out).then(|| row.since.plus(row.duration));
            Some(Standing { attempt: row.attempt, is_out, is_over, ended_at })
        });
        standing.await?.ok_or_else(Problem::internal)
    }

    /// The attempt to be shown; none, if its start is to be waited for.
    fn choose(&self, now: Standing, wanted: Option<u32>, follow: bool) -> Result<Option<u32>, Problem> {
        let none = |detail: String| {
            let help = "wait for it with `follow=true`, or leave `attempt` out for the newest";
            Err(Problem::new(ProblemKind::LogNotFound, detail, help))
        };
        let name = &self.subject.name;
        match wanted {
            Some(wanted) if wanted == 0 || wanted > now.attempt => {
                none(format!("{name} has had {} attempts, not {wanted}", now.attempt))
            }
            Some(wanted) => Ok(Some(wanted)),
            None if follow && now.is_out => Ok(Some(now.attempt)),
            None if follow && !now.is_over => Ok(None),
            None if now.attempt == 0 => none(format!("{name} has not been started")),
            None => {
                let newest_first = (1..=now.attempt).rev();
                Ok(newest_first
                    .into_iter()
                    .find(|&attempt| self.path(attempt).exists())
                    .or(Some(now.attempt)))
            }
        }
    }

    /// The next block of the log; none at its end for now.
    async fn read(&mut self, attempt: u32) -> io::Result<Option<Bytes>> {
        let (path, file, offset) = (self.path(attempt), self.file.take(), self.offset);
        let read = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => Some(file),
                None => open(&path)?,
            };
            let Some(mut file) = file else { return Ok((None, Vec::new())) };
            file.seek(SeekFrom::Start(offset))?;
            let mut block = Vec::new();
            (&mut file).take(LOG_BLOCK_BYTES as u64).read_to_end(&mut block)?;
            Ok::<_, io::Error>((Some(file), block))
        });
        let (file, block) = read.await.map_err(io::Error::other)??;
        self.file = file;
        self.offset += block.len() as u64;
        Ok((!block.is_empty()).then(|| Bytes::from(block)))
    }

    /// Begins with the last `lines`.
    async fn skip_to_tail(&mut self, attempt: u32, lines: usize) -> Result<(), Problem> {
        let path = self.path(attempt);
        let start = tokio::task::spawn_blocking(move || match open(&path)? {
            Some(mut file) => start_of_last(&mut file, lines),
            None => Ok(0),
        });
        let start = start.await.map_err(|_| Problem::internal())?;
        self.offset = start.map_err(|error| {
            tracing::error!(%error, "a log cannot be read");
            Problem::unavailable("the log cannot be read; the coordinator's log says why")
        })?;
        Ok(())
    }

    /// Waits for the rest of the log of an attempt that has just ended.
    async fn settle(&mut self, attempt: u32) -> Result<(), Problem> {
        while attempt > 0 && !self.is_complete(attempt, LOG_SETTLES).await? {
            tokio::time::sleep(LOG_POLL).await;
        }
        Ok(())
    }

    /// Whether nothing will be added to the log of an attempt, or its end has not come within `grace`.
    async fn is_complete(&mut self, attempt: u32, grace: Duration) -> Result<bool, Problem> {
        let now = self.api.parts.clock.now();
        if self.ended_at.is_none() {
            // Its owner is not asked again before something has happened.
            if self.is_out && !self.head.has_changed().unwrap_or(true) {
                return Ok(false);
            }
            let standing = self.standing().await?;
            self.is_out = standing.is_out && standing.attempt == attempt;
            if self.is_out {
                return Ok(false);
            }
            let is_newest = standing.attempt == attempt;
            self.ended_at = Some(standing.ended_at.filter(|_| is_newest).map_or(now, |ended| ended.min(now)));
        }
        let has_waited = self.ended_at.is_some_and(|ended| now.since(ended) >= grace);
        let Subject { run, name, prints, .. } = &self.subject;
        Ok(has_waited || !prints || (self.api.parts.log_is_complete)(run, name, attempt))
    }
}

/// Opens a log; none, if nothing was written. A link in its place leads nowhere: what it names may be no log.
fn open(path: &FilePath) -> io::Result<Option<File>> {
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    match OpenOptions::new().read(true).custom_flags(no_links).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `lines` begin. A line break at the very end ends the last line, and begins none.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let size = end;
    if lines == 0 {
        return Ok(size);
    }
    let mut breaks = 0;
    while end > 0 {
        let start = end.saturating_sub(LOG_BLOCK_BYTES as u64);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = start + at as u64 + 1;
            if behind == size {
                continue;
            }
            breaks += 1;
            if breaks == lines {
                return Ok(behind);
            }
        }
        end = start;
    }
    Ok(0)
}

/// Sends a log.
struct Sender {
    log: Log,
    attempt: Option<u32>,
    /// Who follows it.
    follow: Option<(Caller, Place)>,
}

impl Sender {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let shutdown = self.log.api.parts.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(io::Error::other("the coordinator is ending")),
            chunk = self.chunk() => chunk,
        }
    }

    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let ended = |problem: Problem| io::Error::other(format!("{problem:?}"));
        loop {
            if let Some((caller, _)) = &self.follow
                && !self.log.api.parts.tokens.is_good(&caller.token)
            {
                return Err(io::Error::other("the token is good no more"));
            }
            let Some(attempt) = self.attempt else {
                let now = self.log.standing().await.map_err(ended)?;
                if now.is_over && now.attempt == 0 {
                    return Ok(None);
                }
                if now.is_out || now.is_over {
                    self.attempt = Some(now.attempt);
                } else if let Ok(Err(_)) = timeout(KEEP_ALIVE, self.log.head.changed()).await {
                    return Err(io::Error::other("the coordinator is ending"));
                }
                continue;
            };
            // Asked before the rest is read, so that nothing is missed.
            let is_last = match self.follow {
                Some(_) => self.log.is_complete(attempt, LOG_GRACE).await.map_err(ended)?,
                None => true,
            };
            match self.log.read(attempt).await? {
                Some(block) => return Ok(Some(block)),
                None if is_last => return Ok(None),
                None => tokio::time::sleep(LOG_POLL).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_begin_where_they_should() {
        let mut file = tempfile::tempfile().expect("a file");
        let long = "x".repeat(LOG_BLOCK_BYTES);
        write!(file, "one\ntwo\n{long}\nfour\n").expect("written");
        let start = |lines| start_of_last(&mut file, lines).expect("read");
        let end = 8 + LOG_BLOCK_BYTES as u64 + 6;
        assert_eq!([0, 1, 2, 3, 4, 5].map(start), [end, end - 5, 8, 4, 0, 0]);
        file.seek(SeekFrom::End(0)).expect("there");
        write!(file, "no end").expect("written");
        assert_eq!(start_of_last(&mut file, 1).expect("read"), end);
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("a.1.log");
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("linked");
        assert!(open(&link).is_err());
        assert!(open(&directory.path().join("b.1.log")).expect("no error").is_none());
    }
}
