//! The streams beside the runs: what became of the fleet (`fleet`), and who did what (`audit`).

use crate::codec::expand;
use crate::runtime::new_id;
use crate::store::{Append, AppendError, Cursor, EventStore, NewRecord, ReadError, StreamId, Ticket};
use cairn_shared::clock::Clock;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A fact about the fleet, or about who used the coordinator. Its name and its fields are its stored form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event_type", content = "event_data")]
pub(super) enum SideEvent {
    /// An agent is there.
    AgentJoined { agent: String, incarnation: u64, slots: u32, version: String },
    /// An agent is gone.
    AgentLost { agent: String, incarnation: u64, reason: String },
    /// An agent's lease ended.
    LeaseExpired { agent: String, incarnation: u64 },
    /// Somebody asked that an agent be given nothing new.
    AgentDrained { agent: String },
    /// Somebody asked that an agent be given work again.
    AgentUndrained { agent: String },
    /// Somebody wrote, or was refused.
    RequestMade { action: String, status: u16 },
}

impl SideEvent {
    fn is_audit(&self) -> bool {
        matches!(self, Self::RequestMade { .. })
    }
}

/// One stream, and what we know of it.
struct Stream {
    id: StreamId,
    version: u64,
    epoch: u64,
}

/// Writes the streams beside the runs. One owner.
pub(super) struct SideLog {
    store: Arc<dyn EventStore>,
    clock: Clock,
    correlation: String,
    fleet: Stream,
    audit: Stream,
}

impl SideLog {
    /// Takes the streams over.
    pub(super) async fn open(store: Arc<dyn EventStore>, clock: Clock) -> Result<Self, AppendError> {
        let fleet = take_over(&*store, "fleet").await?;
        let audit = take_over(&*store, "audit").await?;
        Ok(Self { store, clock, correlation: new_id().to_string(), fleet, audit })
    }

    /// Writes an event; durable when the ticket says so.
    pub(super) fn write(&mut self, event: &SideEvent, user: &str) -> Ticket {
        let stream = if event.is_audit() { &mut self.audit } else { &mut self.fleet };
        let mut body = json!({
            "event_id": new_id().to_string(),
            "schema": crate::codec::SCHEMA,
            "metadata": {
                "timestamp": self.clock.now().to_string(),
                "user_id": user,
                "correlation_id": self.correlation,
                "causation_id": null,
            },
        });
        if let (Some(body), Ok(serde_json::Value::Object(fields))) =
            (body.as_object_mut(), serde_json::to_value(event))
        {
            body.extend(fields);
        }
        stream.version += 1;
        let record = NewRecord {
            stream: stream.id.clone(),
            first_version: stream.version,
            count: 1,
            body: body.to_string(),
        };
        self.store.submit(Append { epoch: stream.epoch, records: vec![record] })
    }
}

/// The agents that were to be given nothing new when the log ended. The stream of the fleet is read whole, which is
/// some hundred bytes for each agent that came or went.
pub(super) async fn drained(store: &dyn EventStore) -> Result<BTreeSet<String>, ReadError> {
    let mut drained = BTreeSet::new();
    let mut cursor = Cursor::stream(StreamId::new("fleet"), 1);
    loop {
        let page = store.read(&mut cursor).await?;
        if page.is_empty() {
            return Ok(drained);
        }
        for record in &page {
            let expanded = expand(record, |event| {
                let agent =
                    event.event_data.get("agent").and_then(|name| serde_json::from_str(name.get()).ok());
                match (event.event_type, agent) {
                    ("AgentDrained", Some(agent)) => drop(drained.insert(agent)),
                    ("AgentUndrained", Some(agent)) => drop(drained.remove::<String>(&agent)),
                    _ => {}
                }
            });
            if let Err(error) = expanded {
                tracing::error!(%error, position = record.position, "a fact about the fleet cannot be read");
            }
        }
    }
}

async fn take_over(store: &dyn EventStore, name: &str) -> Result<Stream, AppendError> {
    let id = StreamId::new(name);
    let epoch = store.next_epoch(&id).await?;
    let version = store.stream_head(&id).await?.version;
    Ok(Stream { id, version, epoch })
}
