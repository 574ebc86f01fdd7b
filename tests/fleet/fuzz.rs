//! Hostile messages, to a fleet that works: whatever comes out of a queue, no daemon ends, and the run goes on.

use super::support::{Broker, Daemon, Fleet, LONG, Setup};
use crate::e2e::support::{check_log, root, wait_for};
use crate::sim::random::Random;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

const MESSAGES: usize = 10_000;
/// Publications that are not confirmed yet.
const WINDOW: usize = 200;

const JSON: &str = "application/json";
const BINCODE: &str = "application/x-bincode;v=1";
const QUEUES: [&str; 3] = ["cairn.coordinator", "cairn.output", "cairn.agent.a1"];
/// Of another project than that of the messages, all of whose runs are wrong.
const PLAN: &str = "version: 1\nproject: voyager\ntasks:\n";

/// The samples of the protocol, in both forms.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let folder = root().join("shared/tests/golden_messages");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the samples")
        .map(|entry| entry.expect("an entry").path())
        // One that drains is right to stop the work.
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("drain.")))
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a sample");
        if path.extension().is_some_and(|extension| extension == "json") {
            return (JSON, text.into_bytes());
        }
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hex");
        (BINCODE, digits.chunks(2).map(byte).collect())
    };
    paths.iter().map(read).collect()
}

/// Numbers that have broken programs.
const NUMBERS: [&str; 9] = [
    "-1",
    "0",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "null",
    "\"5\"",
];

/// A number of a JSON text made another one.
fn absurd(text: &[u8], random: &mut Random) -> Vec<u8> {
    let starts: Vec<usize> =
        (1..text.len()).filter(|&at| text[at].is_ascii_digit() && !text[at - 1].is_ascii_digit()).collect();
    if starts.is_empty() {
        return text.to_vec();
    }
    let start = *random.pick(&starts);
    let end = (start..text.len()).find(|&at| !text[at].is_ascii_digit()).unwrap_or(text.len());
    [&text[..start], random.pick(&NUMBERS).as_bytes(), &text[end..]].concat()
}

/// Says things in the name of an agent that is there, but not in its life.
fn forged(random: &mut Random) -> Vec<u8> {
    let agent = ["a1", "a2", "", "-", "..", "a1\\u0000"][random.index(6)];
    let life = ["0", "1", "18446744073709551615"][random.index(3)];
    let task = ["0", "7", "4294967295"][random.index(3)];
    let body = match random.below(4) {
        0 => r#""type":"goodbye""#.to_owned(),
        1 => r#""type":"heartbeat","sequence":18446744073709551615,"draining":true,"holds":[]"#.to_owned(),
        2 => format!(
            r#""type":"reports","run":"voyager.1","reports":[{{"type":"finished","task":{task},"attempt":1,"outcome":{{"type":"failed","kind":"program_not_found","message":"forged"}},"started_micros":-5,"finished_micros":9}}]"#
        ),
        _ => format!(
            r#""type":"orders","epoch":0,"run":"voyager.1","orders":[{{"type":"stop","task":{task},"attempt":1}}]"#
        ),
    };
    format!(r#"{{"protocol":1,"agent":"{agent}","incarnation":{life},{body}}}"#).into_bytes()
}

fn message(samples: &[(&'static str, Vec<u8>)], random: &mut Random) -> (&'static str, Vec<u8>) {
    let (form, sample) = random.pick(samples);
    let mut bytes = sample.clone();
    let form = match random.below(8) {
        0 => return (JSON, forged(random)),
        1 => {
            bytes =
                (0..random.below(300)).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect();
            *random.pick(&[JSON, BINCODE, "", "text/plain", "application/x-bincode;v=9"])
        }
        2 => {
            bytes.truncate(random.index(sample.len().max(1)));
            form
        }
        // In the other form than it says.
        3 => {
            if *form == JSON {
                BINCODE
            } else {
                JSON
            }
        }
        4 if *form == JSON => {
            bytes = absurd(&bytes, random);
            form
        }
        5 => {
            bytes = vec![*random.pick(b"[{\"0\xff"); random.index(100_000)];
            form
        }
        // As it is: right, but of a run that nobody knows.
        6 => form,
        _ => {
            for _ in 0..=random.below(4) {
                if let at @ 1.. = bytes.len() {
                    bytes[random.index(at)] = u8::try_from(random.below(256)).expect("a byte");
                }
            }
            form
        }
    };
    (form, bytes)
}

async fn send(
    channel: &Channel,
    queue: &str,
    form: &str,
    body: &[u8],
) -> impl Future<Output = lapin::Result<Confirmation>> + use<> {
    let properties = BasicProperties::default().with_content_type(form.into()).with_message_id("fuzz".into());
    channel
        .basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties)
        .await
        .expect("it is published")
}

/// Sends all messages; how many of them became dead letters is for the queue `graves` to tell.
async fn attack(url: &str, seed: u64) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let (nothing, options) = (FieldTable::default(), QueueDeclareOptions::durable());
    channel.queue_declare("graves".into(), options, nothing.clone()).await.expect("a queue");
    let binding = QueueBindOptions::default();
    channel
        .queue_bind("graves".into(), "cairn.dead".into(), "#".into(), binding, nothing)
        .await
        .expect("bound");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let (samples, mut random) = (samples(), Random::new(seed));
    let mut under_way = Vec::with_capacity(WINDOW);
    for _ in 0..MESSAGES {
        let (form, body) = message(&samples, &mut random);
        under_way.push(send(&channel, QUEUES[random.index(QUEUES.len())], form, &body).await);
        if under_way.len() == WINDOW {
            for confirm in under_way.drain(..) {
                confirm.await.expect("taken");
            }
        }
    }
    // Bytes that were changed may have come to mean that it drains.
    under_way.push(send(&channel, "cairn.agent.a1", JSON, br#"{"type":"undrain"}"#).await);
    for confirm in under_way {
        confirm.await.expect("taken");
    }
}

#[test]
fn no_message_ends_a_daemon_or_a_run() {
    let seed: u64 = std::env::var("CAIRN_FUZZ_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().expect("a number"));
    eprintln!("CAIRN_FUZZ_SEED={seed}");
    let broker = Broker::start("");
    let fleet = Fleet::over(&broker.url(), Setup::default());
    let children: Vec<_> = fleet.agents.iter().map(Daemon::children).collect();
    // The agents of the messages have no architecture.
    let tasks: String = (0..60)
        .map(|task| {
            format!(
                "- {{id: t{task}, run: \"sleep 0.05\", requires: {{arch: {}}}}}\n",
                std::env::consts::ARCH
            )
        })
        .collect();
    fleet.place.write("plan.yaml", &format!("{PLAN}{tasks}"));
    let run = fleet.submit("plan.yaml");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(attack(&broker.url(), seed));
    let status = fleet.ended(&run, LONG);
    let failures = || {
        let events = fleet.events(&run).into_iter().filter(|event| event["event_type"] == "TaskFailed");
        events.map(|event| event["event_data"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(status["status"], "completed", "{:#?}", failures());
    // All that was sent has been looked at, and what could not be read was kept apart.
    wait_for("empty queues", || {
        let listed = broker.ctl(&["list_queues", "name", "messages"]);
        QUEUES.iter().all(|queue| listed.contains(&format!("{queue}\t0"))).then_some(())
    });
    let listed = broker.ctl(&["list_queues", "name", "messages"]);
    let graves = listed.lines().find_map(|line| line.strip_prefix("graves\t")).expect("the queue");
    let graves: usize = graves.parse().expect("a number");
    assert!((MESSAGES / 4..MESSAGES).contains(&graves), "{graves} dead letters");
    for daemon in std::iter::once(&fleet.coordinator).chain(&fleet.agents) {
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        assert!(std::path::Path::new(&format!("/proc/{}", daemon.pid())).exists());
    }
    for (agent, before) in fleet.agents.iter().zip(children) {
        let after = agent.children();
        assert!(before.iter().all(|child| after.contains(child)), "a child was replaced: {}", agent.log());
    }
    // Bytes that were changed may drain an agent: what it gives back runs under a new number. But each task ends once.
    check_log(&fleet.events(&run), &[], 60);
}
