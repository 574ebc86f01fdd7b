//! The queues and exchanges at the broker: their names, their arguments, who declares them.
//!
//! All are durable, none is exclusive to a connection or deleted with it, and every limit is said: what a broker would
//! choose differs between 3.10 and 4.x. Each declaration has a channel of its own, for a refused one closes it.
//!
//! What is said to coordinators goes by an exchange of its own: a broker checks who may write to an exchange, not which
//! queue is behind it, and whoever may write to the default one can lay a message into every queue.

use super::cause::Cause;
use super::settings::{QueueType, Role, Settings};
use crate::transport::{Address, MAX_DEAD_MESSAGES, MAX_DELIVERIES, MAX_QUEUE_BYTES, MAX_QUEUE_MESSAGES};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

/// Where rejected messages go. A topic exchange, for of such a broker can be told to let nobody publish there by himself:
/// whoever declares a queue that has its dead letters go there must have the right to write to it.
pub(super) const DEAD_EXCHANGE: &str = "cairn.dead";
/// Where events go, by topic.
pub(super) const EVENTS_EXCHANGE: &str = "cairn.events";
/// Where agents speak to coordinators, by the name of the queue: the only exchange that they publish to.
const REPORTS_EXCHANGE: &str = "cairn.reports";
/// The default exchange: every queue by its name.
const DEFAULT_EXCHANGE: &str = "";

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

/// The exchange by which an address is reached; the key is the name of its queue, or the topic.
pub(super) fn exchange(address: &Address) -> &'static str {
    match address {
        Address::Coordinator | Address::Output => REPORTS_EXCHANGE,
        Address::Events(_) => EVENTS_EXCHANGE,
        Address::Agent(_) | Address::Work(_) | Address::Dead => DEFAULT_EXCHANGE,
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
    declare_exchange(connection, settings, DEAD_EXCHANGE, ExchangeKind::Topic).await?;
    declare_exchange(connection, settings, EVENTS_EXCHANGE, ExchangeKind::Topic).await?;
    declare_exchange(connection, settings, REPORTS_EXCHANGE, ExchangeKind::Direct).await?;
    for address in [Address::Dead, Address::Coordinator, Address::Output] {
        declare_queue(connection, settings, &address).await?;
    }
    Ok(())
}

/// Whether there is an exchange for what is said to coordinators. To publish to one that is missing ends the channel, and
/// an agent that has come before the first coordinator is to wait for it in peace.
pub(super) async fn can_report(connection: &Connection) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let found = channel
        .exchange_declare(REPORTS_EXCHANGE.into(), ExchangeKind::Direct, options, FieldTable::default())
        .await;
    // One that was not found has closed the channel.
    found.is_ok() && channel.close(200, "OK".into()).await.is_ok()
}

/// Declares the queue of an address, with what leads to it; returns how many listen there.
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
        let binding = match address {
            Address::Coordinator | Address::Output => Some((REPORTS_EXCHANGE, name.as_str())),
            Address::Dead => Some((DEAD_EXCHANGE, "#")),
            Address::Agent(_) | Address::Work(_) | Address::Events(_) => None,
        };
        if let Some((exchange, key)) = binding {
            let (options, nothing) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(name.as_str().into(), exchange.into(), key.into(), options, nothing).await?;
        }
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
