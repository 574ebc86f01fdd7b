//! What a broker can do by itself: persistent messages through durable queues, confirmed, with nothing of ours in the way
//! but the client library.

use super::QueueType;
use crate::exit::{Exit, Failure};
use cairn_coordinator::runtime::new_id;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::basic::AMQPProperties;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use std::time::Duration;

/// Bytes of a message with one task in it.
const TASK_BYTES: usize = 200;

/// Tasks of a batch.
const BATCH: u32 = 100;

/// Messages under way.
const WINDOW: u16 = 1_000;

/// Batches under way.
const BATCH_WINDOW: u16 = 10;

/// Round trips that are made one at a time.
const ROUND_TRIPS: usize = 200;

/// The queues of every fleet, and its exchanges.
const FLEET_QUEUES: [&str; 3] = ["cairn.coordinator", "cairn.output", "cairn.dead"];
const FLEET_EXCHANGES: [&str; 2] = ["cairn.dead", "cairn.events"];

const PERSISTENT: u8 = 2;

/// What a message carries.
#[derive(Clone, Copy)]
pub enum Carried {
    /// One task.
    Task,
    /// A batch of them.
    Batch,
}

/// A broker, and two queues of our own.
pub struct Broker {
    connection: Connection,
    clock: Clock,
    /// There, and back.
    queues: [String; 2],
}

impl Broker {
    /// Connects, and makes the queues.
    pub async fn connect(url: &str, queue_type: QueueType) -> Result<Self, Failure> {
        let properties = ConnectionProperties::default().with_connection_name("cairn bench".into());
        let connection = Connection::connect(url, properties).await.map_err(|error| failed(&error))?;
        let id = new_id();
        let queues = ["there", "back"].map(|way| format!("cairn.bench.{id}.{way}"));
        let broker = Self { connection, clock: Clock::start(Timestamp(0)), queues };
        for queue in &broker.queues {
            broker.declare(queue, queue_type).await.map_err(|error| failed(&error))?;
        }
        Ok(broker)
    }

    async fn declare(&self, queue: &str, queue_type: QueueType) -> Result<(), lapin::Error> {
        let channel = self.connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.name().into()));
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
        channel.close(200, "OK".into()).await
    }

    /// Refuses to disturb a fleet, whose coordinators and ours would take each other's messages. Its queues are removed
    /// where nobody uses them and nothing is in them: a coordinator makes them when it starts.
    pub async fn refuse_a_fleet(&self) -> Result<(), Failure> {
        for queue in FLEET_QUEUES {
            let options =
                QueueDeleteOptions { if_unused: true, if_empty: true, ..QueueDeleteOptions::default() };
            if self.delete(queue, options).await.is_err() {
                let message = format!("a fleet uses this broker: the queue {queue} is in use");
                return Err(Failure::new(Exit::OutOfReach, message).help(
                    "measure in a vhost of its own: `rabbitmqctl add_vhost bench`, `rabbitmqctl set_permissions -p \
                     bench USER '.*' '.*' '.*'`, then --transport amqp://USER:PASSWORD@HOST/bench",
                ));
            }
        }
        Ok(())
    }

    /// Removes a queue, if it is there. A refusal closes a channel, so it has one of its own.
    async fn delete(&self, queue: &str, options: QueueDeleteOptions) -> Result<(), lapin::Error> {
        let channel = self.connection.create_channel().await?;
        channel.queue_delete(queue.into(), options).await?;
        channel.close(200, "OK".into()).await
    }

    /// Messages a second through one queue, each published, confirmed, consumed and acknowledged.
    pub async fn through(&self, messages: u32) -> Result<f64, Failure> {
        let measured = async {
            let mut from = self.consume(&self.queues[0], WINDOW).await?;
            let to = self.publisher().await?;
            let body = vec![b'x'; TASK_BYTES];
            let began = self.clock.now();
            let publish = async {
                let mut confirms = FuturesUnordered::new();
                for _ in 0..messages {
                    while confirms.len() >= usize::from(WINDOW) {
                        confirms.next().await.transpose()?;
                    }
                    confirms.push(publish(&to, &self.queues[0], &body).await?);
                }
                while confirms.next().await.transpose()?.is_some() {}
                Ok::<_, lapin::Error>(())
            };
            let consume = async {
                for _ in 0..messages {
                    take(&mut from).await?;
                }
                Ok(())
            };
            tokio::try_join!(publish, consume)?;
            Ok::<_, lapin::Error>(f64::from(messages) / self.clock.now().since(began).as_secs_f64())
        };
        measured.await.map_err(|error| failed(&error))
    }

    /// Tasks a second that go to a worker and come back, a window of messages under way.
    pub async fn ping_pong(&self, messages: u32, carried: Carried) -> Result<f64, Failure> {
        let (tasks, bytes, window) = match carried {
            Carried::Task => (1, TASK_BYTES, WINDOW),
            Carried::Batch => (BATCH, TASK_BYTES * BATCH as usize, BATCH_WINDOW),
        };
        let began = self.clock.now();
        self.there_and_back(messages, bytes, window).await.map_err(|error| failed(&error))?;
        Ok(f64::from(messages * tasks) / self.clock.now().since(began).as_secs_f64())
    }

    async fn there_and_back(&self, messages: u32, bytes: usize, window: u16) -> Result<(), lapin::Error> {
        let mut there = self.consume(&self.queues[0], window).await?;
        let mut back = self.consume(&self.queues[1], window).await?;
        let (ping, pong) = (self.publisher().await?, self.publisher().await?);
        let body = vec![b'x'; bytes];
        let caller = async {
            let mut confirms = FuturesUnordered::new();
            let (mut sent, mut heard) = (0, 0);
            while heard < messages {
                while sent < messages && sent - heard < u32::from(window) {
                    confirms.push(publish(&ping, &self.queues[0], &body).await?);
                    sent += 1;
                }
                tokio::select! {
                    confirmed = confirms.next(), if !confirms.is_empty() => { confirmed.transpose()?; }
                    delivery = back.next() => {
                        acknowledge(delivery).await?;
                        heard += 1;
                    }
                }
            }
            Ok::<_, lapin::Error>(())
        };
        let worker = async {
            let mut confirms = FuturesUnordered::new();
            let mut heard = 0;
            while heard < messages {
                tokio::select! {
                    confirmed = confirms.next(), if !confirms.is_empty() => { confirmed.transpose()?; }
                    delivery = there.next() => {
                        acknowledge(delivery).await?;
                        heard += 1;
                        confirms.push(publish(&pong, &self.queues[1], &body).await?);
                    }
                }
            }
            while confirms.next().await.transpose()?.is_some() {}
            Ok(())
        };
        tokio::try_join!(caller, worker)?;
        Ok(())
    }

    /// How long one message takes to a worker and back, nothing else being under way, each time after a pause: the
    /// median.
    pub async fn round_trip(&self, pause: Duration) -> Result<Duration, Failure> {
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        let measured = async {
            let mut there = self.consume(&self.queues[0], 1).await?;
            let mut back = self.consume(&self.queues[1], 1).await?;
            let (ping, pong) = (self.publisher().await?, self.publisher().await?);
            let body = vec![b'x'; TASK_BYTES];
            for _ in 0..ROUND_TRIPS {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let began = self.clock.now();
                let pinged = publish(&ping, &self.queues[0], &body).await?;
                take(&mut there).await?;
                let ponged = publish(&pong, &self.queues[1], &body).await?;
                take(&mut back).await?;
                times.push(self.clock.now().since(began));
                tokio::try_join!(pinged, ponged)?;
            }
            Ok(())
        };
        measured.await.map_err(|error: lapin::Error| failed(&error))?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// Removes our queues.
    pub async fn remove_own(&self) {
        for queue in &self.queues {
            // One that the broker does not give up now is empty, and harmless.
            let _ = self.delete(queue, QueueDeleteOptions::default()).await;
        }
    }

    /// Removes what our coordinator and agent had made. What is in use again is somebody else's now.
    pub async fn remove_fleet(&self) {
        let agent = super::fleet::agent_queue();
        for queue in FLEET_QUEUES.into_iter().chain([agent.as_str()]) {
            let options = QueueDeleteOptions { if_unused: true, ..QueueDeleteOptions::default() };
            let _ = self.delete(queue, options).await;
        }
        for exchange in FLEET_EXCHANGES {
            let Ok(channel) = self.connection.create_channel().await else { return };
            let options = ExchangeDeleteOptions { if_unused: true, ..ExchangeDeleteOptions::default() };
            let _ = channel.exchange_delete(exchange.into(), options).await;
        }
    }

    async fn publisher(&self) -> Result<Channel, lapin::Error> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    async fn consume(&self, queue: &str, window: u16) -> Result<Consumer, lapin::Error> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(window, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
    }
}

/// Publishes; what is returned completes when the broker has the message.
async fn publish(
    to: &Channel,
    queue: &str,
    body: &[u8],
) -> Result<impl Future<Output = Result<lapin::Confirmation, lapin::Error>> + use<>, lapin::Error> {
    let properties = AMQPProperties::default().with_delivery_mode(PERSISTENT);
    to.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties).await
}

/// Takes the next message and acknowledges it. To be awaited to its end.
async fn take(from: &mut Consumer) -> Result<(), lapin::Error> {
    acknowledge(from.next().await).await
}

async fn acknowledge(delivery: Option<Result<Delivery, lapin::Error>>) -> Result<(), lapin::Error> {
    match delivery.transpose()? {
        Some(delivery) => delivery.ack(BasicAckOptions::default()).await.map(drop),
        None => Err(lapin::ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into()),
    }
}

fn failed(error: &lapin::Error) -> Failure {
    Failure::new(Exit::OutOfReach, format!("the broker cannot be measured: {error}"))
        .help("its user needs all rights in its vhost; `cairn doctor` looks at the rest")
}
