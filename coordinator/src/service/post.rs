//! What a coordinator sends: each agent is spoken to as it wants to be.

use crate::fleet::Registry;
use cairn_shared::message::codec::{Codec, WireMessage};
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{RunOrders, ToAgent};
use cairn_shared::transport::{Address, Message, PublishError, Transport, TransportFuture};
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sends messages to agents. Cheap to clone.
#[derive(Clone)]
pub(super) struct Post {
    transport: Arc<dyn Transport>,
    /// How each agent that is there wants to be spoken to.
    codecs: Arc<DashMap<String, Codec>>,
    /// Begins the ids of our messages.
    name: Arc<str>,
    sent: Arc<AtomicU64>,
}

impl Post {
    pub(super) fn new(transport: Arc<dyn Transport>, name: &str) -> Self {
        Self { transport, codecs: Arc::default(), name: name.into(), sent: Arc::default() }
    }

    /// Learns how an agent wants to be spoken to.
    pub(super) fn learn(&self, registry: &Registry, agent: &str) {
        let content_type = registry.member(agent).map(|member| member.content_type.as_str());
        if let Some(codec) = content_type.and_then(Codec::of_content_type) {
            self.codecs.insert(agent.to_owned(), codec);
        }
    }

    /// Forgets how an agent wants to be spoken to: it is gone.
    pub(super) fn forget(&self, agent: &str) {
        self.codecs.remove(agent);
    }

    /// Sends a message to an agent's own queue. It is on its way when this returns; the answer is whether it arrived
    /// in its queue, and need not be waited for: whatever matters is said again while it is not answered. A message
    /// about a run goes with the run's trace.
    pub(super) fn say(
        &self,
        agent: &str,
        message: &ToAgent,
        trace: Option<TraceContext>,
    ) -> TransportFuture<'static, Result<(), PublishError>> {
        // Whoever has not said how it wants to be spoken to is spoken to in what every agent reads.
        let codec = self.codecs.get(agent).map_or(Codec::Json, |codec| *codec);
        self.publish(&Address::Agent(agent.to_owned()), kind(message), codec, message, trace)
    }

    /// Sends orders to a queue that several agents share.
    pub(super) fn offer(
        &self,
        capability: &str,
        orders: RunOrders,
        trace: TraceContext,
    ) -> TransportFuture<'static, Result<(), PublishError>> {
        self.publish(
            &Address::Work(capability.to_owned()),
            "orders",
            Codec::Bincode,
            &ToAgent::Orders(orders),
            Some(trace),
        )
    }

    fn publish(
        &self,
        to: &Address,
        kind: &'static str,
        codec: Codec,
        message: &impl WireMessage,
        trace: Option<TraceContext>,
    ) -> TransportFuture<'static, Result<(), PublishError>> {
        let body = match codec.encode(message) {
            Ok(body) => body,
            Err(error) => {
                // Offers are cut to size where they are made, so this is one that no message can hold.
                tracing::error!(%error, kind, ?to, "a message was not sent");
                return Box::pin(std::future::ready(Err(PublishError::TooLarge { bytes: usize::MAX })));
            }
        };
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let message = Message {
            id: format!("{}-{number}", self.name),
            content_type: codec.content_type().to_owned(),
            kind,
            trace: trace.map(|trace| trace.to_string()),
            body,
        };
        self.transport.publish(to, message)
    }
}

/// What kind of message it is, for counters.
fn kind(message: &ToAgent) -> &'static str {
    match message {
        ToAgent::Introduce => "introduce",
        ToAgent::Welcome(_) => "welcome",
        ToAgent::HeartbeatHeard { .. } => "heartbeat_heard",
        ToAgent::Orders(_) => "orders",
        ToAgent::Drain | ToAgent::Undrain => "drain",
    }
}
