//! The history of a run: in pages, or as a stream that goes on while the run does.
//!
//! A stream is pulled by its client: what the client does not read is not read from the log, so a slow one costs a
//! page and no more. It ends when the run has ended and all of it was sent (with an event `end`), when its token is
//! revoked, and when the coordinator ends; a client then comes again with `Last-Event-ID` and misses nothing.

use crate::codec::expand;
use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Path, Query};
use crate::http::followers::Place;
use crate::http::limits::{KEEP_ALIVE, MAX_LOG_PAGES};
use crate::http::model::{EventPage, ProblemBody};
use crate::http::problem::Problem;
use crate::http::runs_index::unreadable;
use crate::runtime::belongs;
use crate::store::{Cursor, StoredRecord};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::fmt::Write as _;
use std::io;
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::IntoParams;

/// Events of a page, where the client does not say.
const DEFAULT_EVENTS: usize = 1_000;
/// Events of a page at most.
const MAX_EVENTS: usize = 10_000;

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct EventsQuery {
    /// Begin with the event of this position; with the first of the run, if it is left out.
    from: Option<u64>,
    /// Send events as they happen, as `text/event-stream`.
    follow: Option<bool>,
    /// Events of a page, 1 to 10,000; 1,000, if it is left out. Not for a stream.
    limit: Option<usize>,
}

/// A page as it is sent.
#[derive(Serialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: u64,
    has_more: bool,
}

/// The events of a run
///
/// A page of them as JSON; with `follow=true`, or `Accept: text/event-stream`, a stream of server-sent events. The
/// `id` of each is its position, its `data` the event as in a page. `Last-Event-ID` goes on behind that position. An
/// event `end` says that the run has ended and nothing follows.
#[utoipa::path(get, path = "/api/v1/runs/{run}/events", tag = "events", operation_id = "list_events",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        EventsQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "The position of the last event that arrived.")),
    responses((status = 200, description = "The events.", content(
            (EventPage = "application/json"),
            (String = "text/event-stream",
                example = "id: 12\ndata: {\"position\":12,\"event_type\":\"RunSubmitted\"}\n\n"))),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let limit = query.limit.unwrap_or(DEFAULT_EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        let detail = format!("a page cannot have that many events: 1 to {MAX_EVENTS}");
        return Err(Problem::invalid(detail, "leave `limit` out, or read several pages"));
    }
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let follow = query.follow.unwrap_or_else(|| accepts.contains("text/event-stream"));
    let from = match last_event_id(&headers)? {
        Some(last) if follow => Some(last.saturating_add(1)),
        _ => query.from,
    };
    // Before it is looked whether the run has ended, so that no end is missed.
    let head = api.parts.handle.head();
    let found = api.runs.find(&run.text).await?;
    let mut reading = Reading::new(found.run, from.unwrap_or(0).max(found.first));
    if !follow {
        let page = reading.page(&api, limit).await?;
        return Ok(Json(page).into_response());
    }
    let place = api.followers.enter(&caller.token)?;
    let follower = Follower {
        api,
        caller,
        reading,
        head,
        _place: place,
        has_begun: false,
        may_be_over: true,
        is_over: false,
    };
    let chunks = stream::unfold(follower, async |mut follower| {
        let chunk = follower.next().await?;
        Some((Ok::<_, io::Error>(chunk), follower))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    position.map(Some).ok_or_else(|| {
        Problem::invalid("the Last-Event-ID is not a position", "send the `id` of the last event, unchanged")
    })
}

/// Reads the events of one run.
struct Reading {
    run: String,
    cursor: Cursor,
    /// Events before this position are not wanted.
    from: u64,
}

impl Reading {
    fn new(run: String, from: u64) -> Self {
        Self { run, cursor: Cursor::all(from), from }
    }

    /// The next page of the log, as far as it is of the run; none at the end.
    async fn records(&mut self, api: &Api) -> Result<Option<Vec<StoredRecord>>, Problem> {
        let mut page = api.parts.store.read(&mut self.cursor).await.map_err(|error| unreadable(&error))?;
        if page.is_empty() {
            return Ok(None);
        }
        page.retain(|record| belongs(record.stream.as_str(), &self.run));
        Ok(Some(page))
    }

    async fn page(&mut self, api: &Api, limit: usize) -> Result<Page, Problem> {
        let mut events = Vec::new();
        for _ in 0..MAX_LOG_PAGES {
            let Some(records) = self.records(api).await? else {
                let next = self.cursor.next_position().max(self.from);
                return Ok(Page { events, next, has_more: false });
            };
            for record in &records {
                let from = self.from;
                let mut next = None;
                each_event(record, from, |position, event| {
                    if events.len() < limit {
                        events.push(event);
                    } else {
                        next.get_or_insert(position);
                    }
                })?;
                if let Some(next) = next {
                    return Ok(Page { events, next, has_more: true });
                }
            }
            self.from = self.cursor.next_position();
        }
        Ok(Page { events, next: self.cursor.next_position(), has_more: true })
    }
}

/// The events of a record from a position on.
fn each_event(
    record: &StoredRecord,
    from: u64,
    mut take: impl FnMut(u64, Box<RawValue>),
) -> Result<(), Problem> {
    let mut written = Ok(());
    let expanded = expand(record, |event| {
        if event.position >= from && written.is_ok() {
            written = to_raw_value(event).map(|value| take(event.position, value));
        }
    });
    expanded.and(written).map_err(|error| {
        tracing::error!(position = record.position, %error, "a record cannot be shown");
        Problem::unavailable("a record of the run cannot be read; the coordinator's log says why")
    })
}

/// A stream of a run's events.
struct Follower {
    api: Api,
    caller: Caller,
    reading: Reading,
    head: watch::Receiver<u64>,
    _place: Place,
    has_begun: bool,
    /// Something happened to the run as a whole since it was last asked whether it is over.
    may_be_over: bool,
    is_over: bool,
}

impl Follower {
    /// What is to be sent next; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // The client is to see at once that it is heard. How soon it is to come again: in milliseconds.
            return Some(Bytes::from_static(b"retry: 1000\n\n"));
        }
        if self.is_over {
            return None;
        }
        let shutdown = self.api.parts.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            chunk = self.chunk() => chunk,
        }
    }

    async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            if !self.api.parts.tokens.is_good(&self.caller.token) {
                return None;
            }
            // What comes while the log is read is not to be waited for.
            self.head.borrow_and_update();
            let mut text = String::new();
            // Where the log cannot be read, the client comes again, and is told why.
            while let Some(records) = self.reading.records(&self.api).await.ok()? {
                for record in &records {
                    self.may_be_over |= record.stream.as_str() == self.reading.run;
                    let told = each_event(record, self.reading.from, |position, event| {
                        let _ = write!(text, "id: {position}\ndata: {}\n\n", event.get());
                    });
                    told.ok()?;
                }
                if !text.is_empty() {
                    return Some(Bytes::from(text));
                }
            }
            if self.may_be_over
                && let Some(end) = self.end().await?
            {
                self.is_over = true;
                return Some(end);
            }
            match timeout(KEEP_ALIVE, self.head.changed()).await {
                Ok(Ok(())) => {}
                // The coordinator has gone.
                Ok(Err(_)) => return None,
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
            }
        }
    }

    /// What is said at the end of the run, if all of it was sent.
    async fn end(&mut self) -> Option<Option<Bytes>> {
        let found = self.api.runs.find(&self.reading.run).await.ok()?;
        self.may_be_over = found.is_over;
        let all_sent = found.read_to <= self.reading.cursor.next_position();
        Some((found.is_over && all_sent).then(|| {
            let text = format!("event: end\ndata: {{\"run\":\"{}\"}}\n\n", found.run);
            Bytes::from(text)
        }))
    }
}
