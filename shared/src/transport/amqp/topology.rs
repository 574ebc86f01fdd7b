//! The queues and exchanges at the broker: their names, their arguments, who declares them.
//!
//! All are durable, none is exclusive to a connection or deleted with it, and every limit is said: what a broker would
//! choose differs between 3.10 and 4.x. Each declaration has a channel of its own, for a refused one closes it.

use super::cause::Cause;
use super::settings::{QueueType, Role, Settings};
use crate::transport::{Address, MAX_DEAD_MESSAGES, MAX_DELIVERIES, MAX_QUEUE_BYTES, MAX_QUEUE_MESSAGES};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

/// Where rejected messages go.
pub(super) const DEAD_EXCHANGE: &str = "cairn.dead";
/// Where events go, by topic.
pub(super) const EVENTS_EXCHANGE: &str = "cairn.events";

/// How long an agent's queue stays without a listener: longer than a reboot, so that nothing is made again needlessly.
const AGENT_QUEUE_EXPIRES_MILLIS: i64 = 3_600_000;

const AGENT_PREFIX: &str = "cairn.agent.";
const WORK_PREFIX: &str = "cairn.work.";

/// The queue behind an address; none for events.
pub(super) fn queue_name(address: &Address) -> Option<String> {
    match address {
        Address::Agent(id) => Some(format!("{AGENT_PREFIX}{id}")),
        Address::Work(capability) => Some(format!("{WORK_PREFIX}{capability}")),
        Address::Coordinator => Some("cairn.coordinator".to_owned()),
        Address::Output => Some("cairn.output".to_owned()),
        Address::Dead => Some("cairn.dead".to_owned()),
        Address::Events(_) => None,
    }
}

/// The address of a queue of ours.
pub(super) fn address_of(queue: &str) -> Option<Address> {
    match queue {
        "cairn.coordinator" => Some(Address::Coordinator),
        "cairn.output" => Some(Address::Output),
        "cairn.dead" => Some(Address::Dead),
        _ => match (queue.strip_prefix(AGENT_PREFIX), queue.strip_prefix(WORK_PREFIX)) {
            (Some(id), _) => Some(Address::Agent(id.to_owned())),
            (_, Some(capability)) => Some(Address::Work(capability.to_owned())),
            _ => None,
        },
    }
}

/// Whether we declare the queue of an address: its only listener does, and coordinators do it for the others.
pub(super) fn declares(role: Role, address: &Address) -> bool {
    matches!(address, Address::Agent(_)) || role == Role::Coordinator
}

/// Declares what everything else needs, so far as it is ours to declare.
pub(super) async fn declare_all(connection: &Connection, settings: &Settings) -> Result<(), Cause> {
    if settings.role == Role::Agent {
        return Ok(());
    }
    declare_exchange(connection, settings, DEAD_EXCHANGE, ExchangeKind::Fanout).await?;
    declare_exchange(connection, settings, EVENTS_EXCHANGE, ExchangeKind::Topic).await?;
    for address in [Address::Dead, Address::Coordinator, Address::Output] {
        declare_queue(connection, settings, &address).await?;
    }
    bind_dead(connection).await.map_err(|error| Cause::of(&error, &settings.url))
}

/// Declares the queue of an address; returns how many listen there.
pub(super) async fn declare_queue(
    connection: &Connection,
    settings: &Settings,
    address: &Address,
) -> Result<u32, Cause> {
    let Some(name) = queue_name(address) else { return Ok(0) };
    let declare = async {
        let channel = connection.create_channel().await?;
        let arguments = arguments(address, settings.queue_type);
        let queue =
            channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "OK".into()).await?;
        Ok(queue.consumer_count())
    };
    declare.await.map_err(|error| Cause::of_declaration(&error, &format!("the queue {name}"), &settings.url))
}

async fn declare_exchange(
    connection: &Connection,
    settings: &Settings,
    name: &'static str,
    kind: ExchangeKind,
) -> Result<(), Cause> {
    let declare = async {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
        channel.close(200, "OK".into()).await
    };
    declare
        .await
        .map_err(|error| Cause::of_declaration(&error, &format!("the exchange {name}"), &settings.url))
}

async fn bind_dead(connection: &Connection) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    let nothing = FieldTable::default();
    let options = QueueBindOptions::default();
    channel.queue_bind("cairn.dead".into(), DEAD_EXCHANGE.into(), "".into(), options, nothing).await?;
    channel.close(200, "OK".into()).await
}

fn arguments(address: &Address, queue_type: QueueType) -> FieldTable {
    let mut table = FieldTable::default();
    let mut set = |name: &str, value: AMQPValue| {
        table.insert(name.into(), value);
    };
    let dead = *address == Address::Dead;
    let messages = if dead { MAX_DEAD_MESSAGES } else { MAX_QUEUE_MESSAGES };
    set("x-queue-type", AMQPValue::LongString(queue_type.argument().into()));
    set("x-max-length", number(messages));
    set("x-max-length-bytes", number(MAX_QUEUE_BYTES));
    set("x-overflow", AMQPValue::LongString(if dead { "drop-head" } else { "reject-publish" }.into()));
    if !dead {
        set("x-dead-letter-exchange", AMQPValue::LongString(DEAD_EXCHANGE.into()));
    }
    if queue_type == QueueType::Quorum {
        set("x-delivery-limit", AMQPValue::LongLongInt(MAX_DELIVERIES.into()));
    }
    if matches!(address, Address::Agent(_)) {
        set("x-expires", AMQPValue::LongLongInt(AGENT_QUEUE_EXPIRES_MILLIS));
    }
    table
}

fn number(value: usize) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_tells_its_address() {
        let agent = Address::Agent("a.work.1".to_owned());
        for address in
            [agent, Address::Work("gpu".to_owned()), Address::Coordinator, Address::Output, Address::Dead]
        {
            assert_eq!(queue_name(&address).as_deref().and_then(address_of), Some(address));
        }
        assert_eq!(queue_name(&Address::Events("x".to_owned())), None);
        assert_eq!(address_of("cairn.other"), None);
    }
}
