//! The events of a run, one after the other, with none left out and none twice, across restarts of the coordinator.

use super::send::{EVENT_STREAM, jittered};
use super::sse::{Frame, Parser};
use super::{Client, problem};
use crate::exit::{Exit, Failure};
use cairn_coordinator::http::model::EventBody;
use reqwest::Response;
use std::collections::VecDeque;
use std::time::Duration;

/// How long is waited, up to, before a stream that ended without a word is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// The kind of the frame that says that a run has ended and all was told.
const END: &str = "end";

/// The events of a run from a position on, as they become durable.
pub struct EventStream<'a> {
    client: &'a Client,
    run: String,
    /// The position to begin with.
    from: u64,
    /// The position of the newest event that was handed out.
    last: Option<u64>,
    connection: Option<Connection>,
}

struct Connection {
    response: Response,
    parser: Parser,
    frames: VecDeque<Frame>,
}

/// An event as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldEvent {
    /// Its text, one JSON value.
    pub text: String,
}

impl ToldEvent {
    /// What it says.
    ///
    /// # Errors
    /// It is no event.
    pub fn body(&self, client: &Client) -> Result<EventBody, Failure> {
        serde_json::from_str(&self.text).map_err(|error| problem::unreadable(client.target(), &error))
    }
}

impl<'a> EventStream<'a> {
    /// The events of `run`; nothing is asked for yet.
    pub fn new(client: &'a Client, run: &str, from: u64) -> Self {
        Self { client, run: run.to_owned(), from, last: None, connection: None }
    }

    /// The next event; waits for it. `None` once the run has ended and all of it was handed out. Can be dropped while
    /// it waits: no event is lost by that.
    ///
    /// # Errors
    /// The coordinator has been out of reach for too long, refuses, or cannot be understood.
    pub async fn next(&mut self) -> Result<Option<ToldEvent>, Failure> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connection = Some(self.connect().await?);
                continue;
            };
            if let Some(frame) = connection.frames.pop_front() {
                if frame.event == END {
                    self.connection = None;
                    return Ok(None);
                }
                match self.told(frame)? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let lost = match connection.response.chunk().await {
                Ok(Some(bytes)) => {
                    let read = connection.parser.push(&bytes, &mut connection.frames);
                    read.map_err(|error| problem::unreadable(self.client.target(), &error))?;
                    continue;
                }
                Ok(None) => Failure::new(Exit::OutOfReach, "the coordinator ended the stream of events"),
                Err(error) => problem::no_answer(self.client.target(), &error),
            };
            self.connection = None;
            self.client.lost(&lost);
            tokio::time::sleep(jittered(REOPEN_PAUSE)).await;
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let (from, last) = (self.from.to_string(), self.last.map(|last| last.to_string()));
        let mut headers = vec![EVENT_STREAM];
        if let Some(last) = &last {
            headers.push(("last-event-id", last));
        }
        let query = [("follow", "true"), ("from", from.as_str())];
        let response = self.client.open(&["runs", &self.run, "events"], &query, &headers).await?;
        Ok(Connection { response, parser: Parser::default(), frames: VecDeque::new() })
    }

    /// The event of a frame, if it is one that has not been handed out.
    fn told(&mut self, frame: Frame) -> Result<Option<ToldEvent>, Failure> {
        // A later coordinator may say other things, too.
        if !matches!(frame.event.as_str(), "" | "message") {
            return Ok(None);
        }
        let position: u64 =
            frame.id.parse().map_err(|error| problem::unreadable(self.client.target(), &error))?;
        if self.last.is_some_and(|last| position <= last) || position < self.from {
            return Ok(None);
        }
        self.last = Some(position);
        Ok(Some(ToldEvent { text: frame.data }))
    }
}
