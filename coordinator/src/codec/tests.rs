//! What is written is what is read: every type of event, whole batches, and what other versions may have written.

use super::*;
use crate::insight::tests::plan_of;
use crate::store::{NewRecord, StoredRecord, StreamId};
use cairn_model::{
    AgentIndex, AgentRole, AgentSpec, Ended, Event, Failure, FailureKind, Graph, NodeIndex, RunOptions,
    RunSubmitted, Scope, TaskIndex, Timestamp,
};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;
use uuid::Uuid;

const PLAN: &str = "
version: 1
project: apollo
milestones:
  - id: build
    tasks:
      - {id: a, exec: [x]}
      - {id: b#1.2, exec: [x]}
      - {id: _c, wait: 1s}
  - id: ship
    needs: [build]
    tasks:
      - {id: a, exec: [x]}
      - {id: done, needs: [a]}
  - {id: empty}
";

const TASKS: u32 = 5;
const MILESTONES: u32 = 3;
const AGENTS: [&str; 3] = ["local-1", "agent \"zwei\"\\", "агент\u{7f}\n"];

static SHARED: LazyLock<(Plan, Graph)> = LazyLock::new(|| plan_of(PLAN));

fn plan() -> (&'static Plan, &'static Graph) {
    let (plan, graph) = &*SHARED;
    assert_eq!((plan.task_count(), plan.milestones().len()), (TASKS as usize, MILESTONES as usize));
    (plan, graph)
}

/// Text with all that JSON must escape, and all that it need not.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        Just("null".to_owned()),
        Just("\0\u{1}\u{1f}\"\\/\u{7f}\u{2028}\u{fffd}\u{10ffff}".to_owned()),
        prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter),
        "[a-z ]{0,20}",
    ]
    .boxed()
}

/// The years 0 to 9999: what RFC 3339 can tell.
fn time() -> impl Strategy<Value = Timestamp> {
    let years = -62_167_219_200_000_000..253_402_300_800_000_000_i64;
    prop_oneof![Just(Timestamp(0)), years.prop_map(Timestamp)]
}

/// Whole microseconds, up to the longest that can be told.
fn duration() -> impl Strategy<Value = Duration> {
    let longest = u64::try_from(i64::MAX).expect("it is positive");
    let micros = prop_oneof![
        Just(0),
        Just(1),
        Just(999_999),
        Just(1_000_000),
        Just(longest),
        0..longest,
        0..9_000_000_u64
    ];
    micros.prop_map(Duration::from_micros)
}

fn task() -> impl Strategy<Value = TaskIndex> {
    (0..TASKS).prop_map(TaskIndex)
}

fn milestone() -> impl Strategy<Value = MilestoneIndex> {
    (0..MILESTONES).prop_map(MilestoneIndex)
}

fn agent() -> impl Strategy<Value = AgentIndex> {
    (0..AGENTS.len()).prop_map(AgentIndex::new)
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Run), milestone().prop_map(Scope::Milestone), task().prop_map(Scope::Task)]
}

fn failure() -> impl Strategy<Value = Box<Failure>> {
    let kind = prop::sample::select(FailureKind::NAMES.to_vec()).prop_map(|(kind, _)| kind);
    let exit_code = prop::option::of(prop_oneof![Just(i32::MIN), Just(i32::MAX), 0..256]);
    (kind, text(), exit_code)
        .prop_map(|(kind, message, exit_code)| Box::new(Failure { kind, message, exit_code }))
}

/// Pairs sorted by name, each name once, as the model promises them.
fn pairs<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(String, T)>> {
    prop::collection::btree_map(text(), value, 0..4).prop_map(|map| map.into_iter().collect())
}

fn submitted() -> impl Strategy<Value = Event> {
    let options = (any::<bool>(), any::<u64>(), any::<bool>());
    let options =
        options.prop_map(|(fail_fast, seed, closed_fleet)| RunOptions { fail_fast, seed, closed_fleet });
    let names = (text(), text(), text());
    let key = prop::option::of(text());
    (names, pairs(text()), options, any::<u64>(), any::<u64>(), key).prop_map(
        |((plan_hash, plan_name, plan_directory), parameters, options, tasks, milestones, key)| {
            let run = "apollo.1".to_owned();
            let submitted = RunSubmitted {
                run,
                plan_hash,
                plan_name,
                plan_directory,
                parameters,
                options,
                tasks,
                milestones,
                key,
            };
            Event::RunSubmitted(Box::new(submitted))
        },
    )
}

fn joined() -> impl Strategy<Value = Event> {
    let amount =
        prop_oneof![Just(u64::MAX), Just(1), Just(999), any::<u64>(), (0..64_u64).prop_map(|n| n * 1000)];
    let numbers = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    let role = prop_oneof![
        Just(AgentRole::Own),
        any::<u64>().prop_map(|offer_lease_micros| AgentRole::Pool { offer_lease_micros }),
        text().prop_map(|pool| AgentRole::Member { pool }),
    ];
    (agent(), numbers, pairs(amount), pairs(text()), role, any::<bool>()).prop_map(
        |(agent, (incarnation, slots, backlog, timers), resources, labels, role, is_new)| {
            let id = AGENTS[agent.get()].to_owned();
            let spec = AgentSpec { id, incarnation, slots, backlog, timers, resources, labels, role };
            let spec = Box::new(spec);
            if is_new { Event::AgentJoined(spec) } else { Event::AgentChanged(spec) }
        },
    )
}

fn of_the_run() -> BoxedStrategy<Event> {
    let reason = || text().prop_map(String::into_boxed_str);
    prop_oneof![
        submitted(),
        any::<u64>().prop_map(|epoch| Event::OwnerChanged { epoch }),
        reason().prop_map(|reason| Event::RunInterrupted { reason }),
        (scope(), reason()).prop_map(|(scope, reason)| Event::Paused { scope, reason }),
        scope().prop_map(|scope| Event::Resumed { scope }),
        (scope(), reason(), any::<bool>()).prop_map(|(scope, reason, fail_fast)| Event::CancelRequested {
            scope,
            reason,
            fail_fast
        }),
        any::<u32>().prop_map(|warnings| Event::RunCompleted { warnings }),
        Just(Event::RunFailed),
        Just(Event::RunCancelled),
        Just(Event::RunReopened),
        joined(),
        (agent(), reason()).prop_map(|(agent, reason)| Event::AgentLost { agent, reason }),
    ]
    .boxed()
}

fn of_a_milestone() -> BoxedStrategy<Event> {
    let need = prop_oneof![
        (0..TASKS).prop_map(NodeIndex),
        // The end barriers: those of a start are never a need.
        milestone().prop_map(|milestone| plan().1.end(milestone)),
    ];
    prop_oneof![
        milestone().prop_map(|milestone| Event::MilestoneStarted { milestone }),
        milestone().prop_map(|milestone| Event::MilestoneCompleted { milestone }),
        milestone().prop_map(|milestone| Event::MilestoneFailed { milestone }),
        milestone().prop_map(|milestone| Event::MilestoneSkipped { milestone }),
        milestone().prop_map(|milestone| Event::MilestoneCancelled { milestone }),
        (milestone(), any::<bool>())
            .prop_map(|(milestone, paused)| Event::MilestoneReopened { milestone, paused }),
        (milestone(), need, any::<bool>(), any::<u64>()).prop_map(
            |(milestone, node, completed, position)| Event::DependencyResolved {
                milestone,
                node,
                completed,
                position
            }
        ),
    ]
    .boxed()
}

fn of_a_task() -> BoxedStrategy<Event> {
    let attempt = any::<u32>;
    let message = prop::option::of(text().prop_map(String::into_boxed_str));
    prop_oneof![
        (task(), attempt(), agent()).prop_map(|(task, attempt, agent)| Event::TaskDispatched {
            task,
            attempt,
            agent
        }),
        (task(), prop::sample::select(Ended::NAMES.to_vec()))
            .prop_map(|(task, (ended, _))| Event::TaskReopened { task, ended }),
        (task(), attempt(), agent(), any::<bool>()).prop_map(|(task, attempt, agent, awaited)| {
            Event::TaskGranted { task, attempt, agent, awaited }
        }),
        (task(), attempt()).prop_map(|(task, attempt)| Event::LeaseExpired { task, attempt }),
        (task(), attempt(), time()).prop_map(|(task, attempt, started_at)| Event::TaskStarted {
            task,
            attempt,
            started_at
        }),
        (task(), attempt(), any::<u16>(), message).prop_map(|(task, attempt, permille, message)| {
            Event::ProgressUpdated { task, attempt, permille, message }
        }),
        (task(), attempt(), time(), duration()).prop_map(|(task, attempt, finished_at, duration)| {
            Event::TaskCompleted { task, attempt, finished_at, duration }
        }),
        (task(), attempt(), failure(), time(), duration()).prop_map(
            |(task, attempt, failure, finished_at, duration)| Event::TaskFailed {
                task,
                attempt,
                failure,
                finished_at,
                duration
            }
        ),
        (task(), attempt(), failure(), any::<bool>(), time()).prop_map(
            |(task, attempt, failure, counts, retry_at)| Event::TaskRetryScheduled {
                task,
                attempt,
                failure,
                counts,
                retry_at
            }
        ),
        task().prop_map(|task| Event::RetryDue { task }),
        (task(), attempt()).prop_map(|(task, attempt)| Event::AttemptTimedOut { task, attempt }),
        (task(), task()).prop_map(|(task, cause)| Event::TaskSkipped { task, cause }),
        (task(), attempt()).prop_map(|(task, attempt)| Event::TaskCancelled { task, attempt }),
    ]
    .boxed()
}

/// A decision: events of any types, some of them many times in a row, so that records hold batches.
fn decision() -> impl Strategy<Value = Vec<Event>> {
    let event = || prop_oneof![1 => of_the_run(), 1 => of_a_milestone(), 2 => of_a_task()];
    let run = (event(), 1..4_usize).prop_map(|(event, times)| vec![event; times]);
    let like = prop_oneof![prop::collection::vec(event(), 1..6), run];
    prop::collection::vec(like, 1..8).prop_map(|parts| parts.concat())
}

fn envelope(id: u128, at: Timestamp) -> Envelope<'static> {
    Envelope { id: Uuid::from_u128(id), at, user: "ada \"the first\"", correlation: "0198\\" }
}

fn encode(encoder: &mut Encoder, plan: &Plan, events: &[Event], envelope: &Envelope<'_>) -> Vec<NewRecord> {
    encoder.encode(plan, events, envelope, |agent| AGENTS[agent.get()])
}

/// The records as a store gives them back.
fn store(records: Vec<NewRecord>, mut position: u64) -> Vec<StoredRecord> {
    let stored = |NewRecord { stream, first_version, count, body }| {
        let record = StoredRecord { position, stream, first_version, count, epoch: 1, body };
        position = record.next_position();
        record
    };
    records.into_iter().map(stored).collect()
}

/// Reads records in which all of [`AGENTS`] have joined before. One that joins again is not counted anew here: the
/// events name agents by the first of their name.
fn decode(
    plan: &Plan,
    graph: &Graph,
    records: &[StoredRecord],
) -> Result<Vec<(Event, Timestamp)>, DecodeError> {
    let mut events = Vec::new();
    for record in records {
        let agents = AGENTS.map(str::to_owned).to_vec();
        Decoder::new(plan, graph, agents).decode(record, |event, at| events.push((event, at)))?;
    }
    Ok(events)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(first in decision(), second in decision(), at in time(), id in any::<u128>()) {
        let (plan, graph) = plan();
        let mut encoder = Encoder::new("apollo.1", HashMap::new());
        let later = at.plus(Duration::from_micros(1)).min(Timestamp(253_402_300_799_999_999));
        for (events, at) in [(first, at), (second, later)] {
            let records = store(encode(&mut encoder, plan, &events, &envelope(id, at)), 7);
            for record in &records {
                prop_assert!(record.body.bytes().all(|byte| byte >= b' '), "a line of a log: {}", record.body);
            }
            let read = decode(plan, graph, &records).expect("what was written can be read");
            let written: Vec<_> = events.into_iter().map(|event| (event, at)).collect();
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn events_one_by_one_are_numbered_without_gaps(decisions in prop::collection::vec(decision(), 1..4), id in any::<u128>()) {
        let (plan, _) = plan();
        let mut encoder = Encoder::new("apollo.1", HashMap::from([(StreamId::new("apollo.1/build"), 41)]));
        let mut versions = HashMap::from([("apollo.1/build".to_owned(), 41)]);
        let mut position = 100;
        for events in decisions {
            let records = store(encode(&mut encoder, plan, &events, &envelope(id, Timestamp(0))), position);
            let first_id = id & !0xff_ffff;
            let mut count = 0;
            for record in &records {
                expand(record, |event| {
                    let version = versions.entry(event.stream_id.to_owned()).or_insert(0);
                    *version += 1;
                    let id = Uuid::from_u128(first_id + u128::from(count));
                    assert_eq!((event.position, event.version), (position, *version));
                    assert_eq!(event.event_id, id.to_string());
                    let cause = event.metadata.causation_id.as_deref();
                    let is_of_the_first_record = count < u64::from(records[0].count);
                    let first = Uuid::from_u128(first_id).to_string();
                    assert_eq!(cause, (!is_of_the_first_record).then_some(first.as_str()));
                    position += 1;
                    count += 1;
                })
                .expect("a record");
            }
            prop_assert_eq!(count, events.len() as u64);
        }
        let counted: HashMap<_, _> =
            encoder.versions().iter().map(|(stream, version)| (stream.to_string(), *version)).collect();
        prop_assert_eq!(counted, versions);
    }
}

#[test]
fn like_events_of_a_stream_share_a_record() {
    let (plan, graph) = plan();
    let dispatched =
        |task, attempt| Event::TaskDispatched { task: TaskIndex(task), attempt, agent: AgentIndex(0) };
    let events = [dispatched(0, 1), dispatched(1, 1), dispatched(2, 1), dispatched(3, 2)];
    let mut encoder = Encoder::new("apollo.1", HashMap::new());
    let records = store(encode(&mut encoder, plan, &events, &envelope(0, Timestamp(0))), 1);
    let of: Vec<_> = records.iter().map(|record| (record.stream.as_str(), record.count)).collect();
    assert_eq!(of, [("apollo.1/build", 3), ("apollo.1/ship", 1)]);
    let shared = r#""event_data":{"attempt":1,"agent":"local-1"},"each":{"task":["build/a","build/b#1.2","build/_c"]}}"#;
    assert!(records[0].body.ends_with(shared), "{}", records[0].body);
    let mut agents = Vec::new();
    expand(&records[0], |event| agents.push(event.event_data["agent"].get().to_owned())).expect("a record");
    assert_eq!(agents, [r#""local-1""#; 3]);
    let read = decode(plan, graph, &records).expect("readable");
    assert_eq!(read.into_iter().map(|(event, _)| event).collect::<Vec<_>>(), events);
}

#[test]
fn scopes_of_one_stream_do_not_share_a_record() {
    let (plan, _) = plan();
    let events = [Scope::Milestone(MilestoneIndex(0)), Scope::Task(TaskIndex(0))]
        .map(|scope| Event::Paused { scope, reason: "lunch".into() });
    let mut encoder = Encoder::new("apollo.1", HashMap::new());
    let records = encode(&mut encoder, plan, &events, &envelope(0, Timestamp(0)));
    assert_eq!(records.iter().map(|record| record.count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_record_holds_no_more_than_its_limit() {
    let (plan, _) = plan();
    let events = vec![Event::RetryDue { task: TaskIndex(0) }; MAX_RECORD_EVENTS as usize + 1];
    let mut encoder = Encoder::new("apollo.1", HashMap::new());
    let records = encode(&mut encoder, plan, &events, &envelope(0, Timestamp(0)));
    let of: Vec<_> = records.iter().map(|record| (record.first_version, record.count)).collect();
    assert_eq!(of, [(1, MAX_RECORD_EVENTS), (u64::from(MAX_RECORD_EVENTS) + 1, 1)]);
}

#[test]
fn a_duration_that_cannot_be_told_is_the_longest_that_can() {
    let (plan, graph) = plan();
    let longest = Duration::from_micros(u64::try_from(i64::MAX).expect("it is positive"));
    for (given, told) in
        [(Duration::MAX, longest), (Duration::new(1, 1_999), Duration::from_micros(1_000_001))]
    {
        let completed = |duration| Event::TaskCompleted {
            task: TaskIndex(0),
            attempt: 1,
            finished_at: Timestamp(0),
            duration,
        };
        let mut encoder = Encoder::new("apollo.1", HashMap::new());
        let records = store(encode(&mut encoder, plan, &[completed(given)], &envelope(0, Timestamp(0))), 1);
        let read = decode(plan, graph, &records).expect("readable");
        assert_eq!(read, [(completed(told), Timestamp(0))]);
    }
}

/// A record that some other version may have written, and what is said of it.
fn refused(body: &str, count: u32) -> Reason {
    let (plan, graph) = plan();
    let stream = StreamId::new("apollo.1/build");
    let record =
        StoredRecord { position: 9, stream, first_version: 3, count, epoch: 1, body: body.to_owned() };
    let error = Decoder::new(plan, graph, vec!["local-1".to_owned()])
        .decode(&record, |_, _| {})
        .expect_err("it cannot be understood");
    assert_eq!((error.position, error.stream.as_str()), (9, "apollo.1/build"));
    error.reason
}

/// A record of the present form with that type and data.
fn body(schema: u32, event_type: &str, rest: &str) -> String {
    format!(
        r#"{{"event_id":"01980000-0000-7000-8000-000000000000","event_type":"{event_type}","schema":{schema},"metadata":{{"timestamp":"2026-12-01T12:00:00Z","user_id":"ada","correlation_id":"c","causation_id":null}},{rest}}}"#
    )
}

#[test]
fn what_cannot_be_understood_is_named() {
    let due = r#""event_data":{"task":"build/a"}"#;
    assert!(matches!(refused("[]", 1), Reason::NotARecord(_)));
    assert!(
        matches!(refused(&body(SCHEMA + 1, "RetryDue", due), 1), Reason::Newer { found } if found == SCHEMA + 1)
    );
    assert!(
        matches!(refused(&body(SCHEMA, "TaskTeleported", due), 1), Reason::UnknownType(name) if name == "TaskTeleported")
    );
    assert!(matches!(refused(&body(SCHEMA, "TaskCancelled", due), 1), Reason::Field("attempt")));
    let wrong = r#""event_data":{"task":"build/a","attempt":"one"}"#;
    assert!(matches!(refused(&body(SCHEMA, "TaskCancelled", wrong), 1), Reason::Field("attempt")));
    let gone = r#""event_data":{"task":"build/gone"}"#;
    assert!(
        matches!(refused(&body(SCHEMA, "RetryDue", gone), 1), Reason::NotInPlan(name) if name == "build/gone")
    );
    let stranger = r#""event_data":{"agent":"stranger","reason":""}"#;
    assert!(
        matches!(refused(&body(SCHEMA, "AgentLost", stranger), 1), Reason::UnknownAgent(name) if name == "stranger")
    );
    let short = r#""event_data":{},"each":{"task":["build/a"]}"#;
    assert!(
        matches!(refused(&body(SCHEMA, "RetryDue", short), 2), Reason::Field("task")),
        "a column is too short"
    );
}

#[test]
fn a_scope_that_is_missing_is_not_the_whole_run() {
    let lost = r#""event_data":{"reason":"lunch"}"#;
    assert!(matches!(refused(&body(SCHEMA, "TaskPaused", lost), 1), Reason::Field("task")));
    assert!(matches!(refused(&body(SCHEMA, "MilestonePaused", lost), 1), Reason::Field("milestone")));
}

#[test]
fn what_a_later_release_writes_can_be_shown() {
    let text =
        body(SCHEMA + 1, "TaskTeleported", r#""event_data":{"to":"mars"},"each":{"task":["x/a","x/b"]}"#);
    let stream = StreamId::new("apollo.1/x");
    let record = StoredRecord { position: 9, stream, first_version: 3, count: 2, epoch: 1, body: text };
    let mut shown = Vec::new();
    expand(&record, |event| shown.push(serde_json::to_string(event).expect("JSON"))).expect("a record");
    assert_eq!(shown.len(), 2);
    assert!(shown[1].starts_with(
        r#"{"position":10,"event_id":"01980000-0000-7000-8000-000000000001","stream_id":"apollo.1/x","event_type":"TaskTeleported","event_data":{"task":"x/b","to":"mars"}"#
    ), "{}", shown[1]);
}

#[test]
fn a_submission_is_read_without_its_plan() {
    let (plan, _) = plan();
    let mut encoder = Encoder::new("apollo.1", HashMap::new());
    let submitted = RunSubmitted {
        run: "apollo.1".to_owned(),
        tasks: 5,
        key: Some("k".to_owned()),
        ..RunSubmitted::default()
    };
    let events = [Event::RunSubmitted(Box::new(submitted.clone())), Event::OwnerChanged { epoch: 1 }];
    let records = store(encode(&mut encoder, plan, &events, &envelope(0, Timestamp(1))), 1);
    let read = read_submitted(&records[0]).expect("a submission");
    assert_eq!((read.what, read.at, read.user.as_str()), (submitted, Timestamp(1), "ada \"the first\""));
    assert_eq!(read_submitted(&records[1]), None);
}
