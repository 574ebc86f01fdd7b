//! The users of the broker: what a coordinator and an agent may do, and what they may not, asked of a real RabbitMQ.

use super::{has_tool, must, root};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
};
use std::path::{Path, PathBuf};
use std::process::Command;

/// AMQP: access refused.
const ACCESS_REFUSED: u16 = 403;

/// A private broker that ends with its value.
struct Broker {
    folder: tempfile::TempDir,
    script: PathBuf,
}

impl Broker {
    /// Nothing if RabbitMQ, or the script that starts a private one, is not there.
    fn start() -> Option<Self> {
        let script = root().join("deploy/services/rabbitmq");
        if !script.is_file() {
            eprintln!("skipped: {} is not there", script.display());
            return None;
        }
        if !has_tool("rabbitmq-server") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a directory");
        let broker = Self { folder, script };
        must(&mut broker.command("start"));
        Some(broker)
    }

    fn node(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(verb).arg(self.node());
        command
    }

    /// `HOST:PORT`.
    fn address(&self) -> String {
        let url = std::fs::read_to_string(self.node().join("url")).expect("the node tells where it is");
        let (_, rest) = url.trim().rsplit_once('@').expect("user and password");
        rest.split('/').next().expect("a host").to_owned()
    }

    /// Makes users, and returns where their addresses are.
    fn users(&self, agents: &[&str]) -> PathBuf {
        let urls = self.folder.path().join("urls");
        must(
            Command::new(root().join("deploy/rabbitmq/users"))
                .args(["--host", &self.address()])
                .arg(&urls)
                .args(agents)
                .env("RABBITMQCTL", format!("{} ctl {}", self.script.display(), self.node().display()))
                .env("URL_SCHEME", "amqp"),
        );
        urls
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A test that has failed already is not to hear of this too.
        let _ = self.command("wipe").output();
    }
}

async fn connect(urls: &Path, user: &str) -> Connection {
    let url = std::fs::read_to_string(urls.join(format!("{user}.url"))).expect("made by the script");
    Connection::connect(url.trim(), ConnectionProperties::default()).await.expect("the user may come in")
}

fn with_dead_letters() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("cairn.dead".into()));
    arguments
}

async fn declare(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, with_dead_letters()).await.map(drop)
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.map(drop)
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<bool> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default();
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, b"x", properties).await?;
    Ok(matches!(confirm.await?, Confirmation::Ack(None)))
}

/// What a user tries.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    Declare(&'static str),
    Consume(&'static str),
    Purge(&'static str),
    Delete(&'static str),
    Publish(&'static str),
    Exchange(&'static str),
}

/// Each attempt has a channel of its own: a refused one closes it.
async fn attempt(connection: &Connection, what: Attempt) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    match what {
        Attempt::Declare(queue) => declare(&channel, queue).await,
        Attempt::Consume(queue) => consume(&channel, queue).await,
        Attempt::Purge(queue) => {
            channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.map(drop)
        }
        Attempt::Delete(queue) => {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.map(drop)
        }
        Attempt::Publish(exchange) => publish(&channel, exchange, "x").await.map(drop),
        Attempt::Exchange(name) => {
            let options = ExchangeDeclareOptions::default();
            channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, FieldTable::default()).await
        }
    }
}

async fn assert_refused(connection: &Connection, what: Attempt) {
    let error = attempt(connection, what).await.expect_err(&format!("{what:?} must be refused"));
    let code = match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_id(),
        other => panic!("{what:?}: {other:?}"),
    };
    assert_eq!(code, ACCESS_REFUSED, "{what:?}: {error}");
}

#[tokio::test]
async fn users_may_do_what_they_need_and_no_more() {
    let Some(broker) = Broker::start() else { return };
    let urls = broker.users(&["one", "a.b"]);
    let coordinator = connect(&urls, "cairn-coordinator").await;
    let channel = coordinator.create_channel().await.expect("a channel");
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for (name, kind) in [("cairn.dead", ExchangeKind::Fanout), ("cairn.events", ExchangeKind::Topic)] {
        channel.exchange_declare(name.into(), kind, durable, FieldTable::default()).await.expect("its own");
    }
    for queue in ["cairn.coordinator", "cairn.output", "cairn.dead", "cairn.work.gpu", "cairn.agent.two"] {
        declare(&channel, queue).await.expect("its own");
    }
    let (options, nothing) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind("cairn.dead".into(), "cairn.dead".into(), "".into(), options, nothing)
        .await
        .expect("its own");

    let agent = connect(&urls, "cairn-agent-one").await;
    let own = agent.create_channel().await.expect("a channel");
    declare(&own, "cairn.agent.one").await.expect("its own queue");
    consume(&own, "cairn.agent.one").await.expect("its own queue");
    consume(&own, "cairn.work.gpu").await.expect("a shared queue");
    for queue in ["cairn.coordinator", "cairn.output"] {
        assert!(publish(&own, "", queue).await.expect("it may report"), "{queue} takes it");
    }
    let to_agent = publish(&channel, "", "cairn.agent.one").await.expect("a coordinator gives orders");
    assert!(to_agent);
    consume(&channel, "cairn.coordinator").await.expect("and hears reports");

    for what in [
        Attempt::Declare("cairn.agent.two"),
        Attempt::Declare("cairn.work.mine"),
        Attempt::Declare("mine"),
        Attempt::Consume("cairn.agent.two"),
        Attempt::Consume("cairn.coordinator"),
        Attempt::Consume("cairn.dead"),
        Attempt::Purge("cairn.coordinator"),
        Attempt::Delete("cairn.work.gpu"),
        Attempt::Publish("cairn.events"),
        Attempt::Exchange("cairn.mine"),
    ] {
        assert_refused(&agent, what).await;
    }
    for what in [Attempt::Declare("mine"), Attempt::Exchange("mine"), Attempt::Publish("amq.fanout")] {
        assert_refused(&coordinator, what).await;
    }
    // A dot in a name is a dot.
    let dotted = connect(&urls, "cairn-agent-a.b").await;
    attempt(&dotted, Attempt::Declare("cairn.agent.a.b")).await.expect("its own queue");
    assert_refused(&dotted, Attempt::Declare("cairn.agent.axb")).await;

    // Again, with one more agent: who is there keeps the password.
    let before = std::fs::read_to_string(urls.join("cairn-agent-one.url")).expect("a file");
    broker.users(&["one", "three"]);
    assert_eq!(std::fs::read_to_string(urls.join("cairn-agent-one.url")).expect("a file"), before);
    attempt(&connect(&urls, "cairn-agent-three").await, Attempt::Declare("cairn.agent.three"))
        .await
        .expect("its own queue");
    drop((coordinator, agent, dotted));
}

#[test]
fn a_name_that_could_be_a_pattern_is_no_name() {
    let folder = tempfile::tempdir().expect("a directory");
    for name in [".*", "a|b", "a/b", "", "-x", "a b"] {
        let output = Command::new(root().join("deploy/rabbitmq/users"))
            .arg(folder.path())
            .arg(name)
            .env("RABBITMQCTL", "false")
            .output()
            .expect("the script runs");
        assert_eq!(output.status.code(), Some(2), "`{name}`: {}", String::from_utf8_lossy(&output.stderr));
    }
}
