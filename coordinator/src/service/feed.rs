//! Publishes events for other systems: the log, read by a cursor of its own, so that no run waits for it.
//!
//! Contract: every event of runs and of the fleet is published at least once, in the order of the log; what is published
//! again after a restart or a lost connection follows in that order again. A message is a JSON array of events as
//! `cairn events` prints them, all of one type and one stream; its topic is `PROJECT.TYPE`, or `fleet.TYPE`.
//!
//! Not here: who may listen, and queues (the broker's), the audit stream (nobody else's business).

use crate::codec::expand;
use crate::store::{Cursor, EventStore, StoredRecord};
use bytes::Bytes;
use cairn_model::{RunId, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::transport::{Address, Message, PublishError, Transport, TransportFuture};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The file of the state directory with the position of the first event that may not have been published.
const CURSOR_FILE: &str = "events.cursor";

/// How often the cursor is saved, at most: what is published again after a crash is what came in so long.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the log is looked at for events that no run's loop tells of: those of the fleet.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long it waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of events after which a message is full.
const FULL_BYTES: usize = 256 << 10;

/// Messages under way at a time: few, for orders to agents go the same way.
const MAX_UNDER_WAY: usize = 16;

/// What the feed is made of.
pub(super) struct Feed {
    pub store: Arc<dyn EventStore>,
    pub transport: Arc<dyn Transport>,
    pub state_directory: PathBuf,
    pub clock: Clock,
    pub head: watch::Receiver<u64>,
}

type UnderWay = VecDeque<TransportFuture<'static, Result<(), PublishError>>>;

impl Feed {
    /// Publishes until the transport is closed, or for ever.
    pub async fn run(mut self) {
        let path = self.state_directory.join(CURSOR_FILE);
        let mut cursor = Cursor::all(self.begin(&path).await);
        let mut saved = (cursor.next_position(), self.clock.now());
        loop {
            let before = cursor.clone();
            let page = match self.store.read(&mut cursor).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "events are not published: the log cannot be read");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            if page.is_empty() {
                let told = tokio::time::timeout(LOOK_INTERVAL, self.head.changed()).await;
                match told {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            } else if let Err(error) = self.publish(&page).await {
                if matches!(error, PublishError::Closed) {
                    return;
                }
                tracing::warn!(%error, "events are not published: they will be tried again");
                cursor = before;
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
            self.save(&path, cursor.next_position(), &mut saved).await;
        }
    }

    /// Where to go on.
    async fn begin(&self, path: &Path) -> u64 {
        let kept = match fs::read_to_string(path) {
            Ok(text) => text.trim().parse().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(1),
            Err(_) => None,
        };
        let Some(position) = kept else {
            tracing::warn!(path = %path.display(), "the file is no position: events are published from the first");
            return 1;
        };
        let end = self.store.head().await.map_or(u64::MAX, |head| head.position.saturating_add(1));
        if position > end {
            tracing::warn!(
                position,
                end,
                "the log is shorter than what was published: it goes on at its end"
            );
        }
        position.clamp(1, end)
    }

    /// Publishes the events of a page, and waits until the broker has them.
    async fn publish(&self, page: &[StoredRecord]) -> Result<(), PublishError> {
        let mut under_way = UnderWay::new();
        for record in page {
            let Some(messages) = messages(record) else { continue };
            for (topic, message) in messages {
                if under_way.len() >= MAX_UNDER_WAY {
                    first(&mut under_way).await?;
                }
                under_way.push_back(self.transport.publish(&Address::Events(topic), message));
            }
        }
        while !under_way.is_empty() {
            first(&mut under_way).await?;
        }
        Ok(())
    }

    async fn save(&self, path: &Path, position: u64, saved: &mut (u64, Timestamp)) {
        let now = self.clock.now();
        if saved.0 == position || now.since(saved.1) < SAVE_INTERVAL {
            return;
        }
        let path = path.to_owned();
        let written = tokio::task::spawn_blocking(move || write(&path, position)).await;
        if let Ok(Err(error)) = written {
            // It costs a repetition after the next start.
            tracing::warn!(%error, "the position of what was published could not be saved");
        }
        *saved = (position, now);
    }
}

/// Waits for the oldest message under way.
async fn first(under_way: &mut UnderWay) -> Result<(), PublishError> {
    let Some(oldest) = under_way.pop_front() else { return Ok(()) };
    match oldest.await {
        Err(error @ (PublishError::TooLarge { .. } | PublishError::LongName)) => {
            // It would be refused for ever, and everything behind it.
            tracing::error!(%error, "an event cannot be published, and is passed over");
            Ok(())
        }
        told => told,
    }
}

/// The messages of a record, with their topics; `None` if it is not to be published.
fn messages(record: &StoredRecord) -> Option<Vec<(String, Message)>> {
    let stream = record.stream.as_str();
    let run = stream.split_once('/').map_or(stream, |(run, _)| run);
    let subject = match (RunId::parse(run), stream) {
        (Some(run), _) => run.project().to_owned(),
        (None, "fleet") => stream.to_owned(),
        (None, _) => return None,
    };
    let mut messages = Vec::new();
    let mut body = String::new();
    let mut begins_at = record.position;
    let mut kind = String::new();
    let mut finish = |body: &mut String, begins_at: u64, kind: &str| {
        body.push(']');
        let message = Message {
            // The same whenever it is published, so that a listener can tell what it has heard before.
            id: format!("event-{begins_at}"),
            content_type: "application/json".to_owned(),
            kind: "events",
            trace: None,
            body: Bytes::from(std::mem::take(body)),
        };
        messages.push((format!("{subject}.{kind}"), message));
    };
    let expanded = expand(record, |event| {
        let Ok(text) = serde_json::to_string(event) else { return };
        if body.len() >= FULL_BYTES {
            finish(&mut body, begins_at, event.event_type);
        }
        if body.is_empty() {
            begins_at = event.position;
        }
        body.push(if body.is_empty() { '[' } else { ',' });
        body.push_str(&text);
        if kind.is_empty() {
            kind = event.event_type.to_owned();
        }
    });
    if let Err(error) = expanded {
        tracing::error!(%error, position = record.position, "a record cannot be read, and is not published");
    }
    if !body.is_empty() {
        finish(&mut body, begins_at, &kind);
    }
    Some(messages)
}

fn write(path: &Path, position: u64) -> io::Result<()> {
    let draft = path.with_extension("cursor.tmp");
    let mut file = File::create(&draft)?;
    writeln!(file, "{position}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StreamId;

    fn record(stream: &str, count: u32, note: &str) -> StoredRecord {
        let each = vec![format!("{note:?}"); count as usize].join(",");
        let body = format!(
            r#"{{"event_id":"01980000-0000-7000-8000-000000000000","event_type":"TaskFailed","schema":1,"metadata":{{"timestamp":"2026-12-01T12:00:00Z","user_id":"ada","correlation_id":"c","causation_id":null}},"event_data":{{}},"each":{{"note":[{each}]}}}}"#
        );
        StoredRecord { position: 7, stream: StreamId::new(stream), first_version: 1, count, epoch: 1, body }
    }

    #[test]
    fn a_large_record_becomes_several_messages_that_can_be_told_apart() {
        let made = messages(&record("apollo.1/main", 10, &"x".repeat(100 << 10))).expect("of a run");
        let ids: Vec<_> = made.iter().map(|(_, message)| message.id.as_str()).collect();
        assert_eq!(ids, ["event-7", "event-10", "event-13", "event-16"]);
        let mut positions = Vec::new();
        for (topic, message) in &made {
            assert_eq!(topic, "apollo.TaskFailed");
            let events: Vec<serde_json::Value> = serde_json::from_slice(&message.body).expect("an array");
            positions.extend(events.iter().map(|event| event["position"].as_u64().expect("a number")));
        }
        assert!(positions.into_iter().eq(7..17));
    }

    #[test]
    fn the_fleet_has_a_topic_and_the_audit_has_none() {
        assert_eq!(messages(&record("fleet", 1, "")).expect("published")[0].0, "fleet.TaskFailed");
        assert!(messages(&record("audit", 1, "")).is_none());
    }
}
