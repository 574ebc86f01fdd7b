//! Golden logs: a log of each released form of events, which every later release must replay to the same status.
//!
//! `FORM/state` is a state directory as that release left it (log and plans), `FORM/status.json` what it meant: for
//! some positions of each run its status. Neither is ever changed. A new form gets a new directory; types of events that
//! a form has got since its log was made stand in a second one, with a letter behind the form's number:
//!
//! ```text
//! cargo test -p cairn-tests --test cairn golden::make::make -- --ignored    writes the directory of the present form
//! cargo test -p cairn-tests --test cairn golden::make_fleet::make -- --exact --ignored    writes form-1b: what only a fleet does
//! cargo test -p cairn-tests --test cairn golden::make_fleet::make_paused -- --ignored    writes form-1c: a pause that stays
//! ```

mod make;
mod make_fleet;

use cairn_coordinator::codec::{Decoder, Encoder, Envelope, SCHEMA, StoredEvent, expand};
use cairn_coordinator::projection::StatusView;
use cairn_coordinator::runtime::{RunSummary, belongs, each_record, list_runs, load_run};
use cairn_coordinator::store::file::LogReader;
use cairn_coordinator::store::{Cursor, EventReader, NewRecord, ReadError, StoredRecord};
use cairn_model::{Event, Timestamp};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The directory of all golden logs.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The directories of golden logs, one for each form.
fn forms() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root()).expect("golden logs");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let forms: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    assert!(!forms.is_empty());
    forms
}

/// The directories of the present form.
fn present() -> Vec<PathBuf> {
    let is_present = |form: &PathBuf| {
        let name = form.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let letters = name.strip_prefix(&format!("form-{SCHEMA}"));
        letters.is_some_and(|letters| letters.chars().all(char::is_alphabetic))
    };
    forms().into_iter().filter(is_present).collect()
}

fn status_at(
    state_directory: &Path,
    reader: &dyn EventReader,
    run: &RunSummary,
    until: Option<u64>,
) -> Value {
    let loaded = load_run(state_directory, reader, run, until).expect("a golden log can be read");
    serde_json::to_value(StatusView::new(&loaded.state)).expect("JSON")
}

fn records(reader: &dyn EventReader) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    each_record(reader, &mut Cursor::all(1), |record| {
        records.push(record.clone());
        Ok::<(), ReadError>(())
    })
    .expect("a golden log can be read");
    records
}

/// All that was said then is said now; what has been added since is not looked at.
fn assert_says(found: &Value, golden: &Value, place: &str) {
    match (found, golden) {
        (Value::Object(found), Value::Object(golden)) => {
            for (key, golden) in golden {
                assert_says(found.get(key).unwrap_or(&Value::Null), golden, &format!("{place}.{key}"));
            }
        }
        (Value::Array(found), Value::Array(golden)) => {
            assert_eq!(found.len(), golden.len(), "{place}");
            for (at, (found, golden)) in found.iter().zip(golden).enumerate() {
                assert_says(found, golden, &format!("{place}[{at}]"));
            }
        }
        _ => assert_eq!(found, golden, "{place}"),
    }
}

#[test]
fn every_released_form_replays_to_the_status_that_it_had() {
    for form in forms() {
        let state = form.join("state");
        let reader = LogReader::open(&state).expect("a golden log");
        let verified = reader.verify().expect("a golden log is sound");
        assert_eq!(verified.unfinished, None);
        let text = std::fs::read_to_string(form.join("status.json")).expect("what it meant");
        let golden: Value = serde_json::from_str(&text).expect("JSON");
        let runs = list_runs(&reader).expect("runs");
        assert_eq!(runs.len(), golden.as_object().expect("runs").len());
        for run in &runs {
            let name = run.run.to_string();
            for (position, golden) in golden[&name].as_object().expect("positions") {
                let until = position.parse().expect("a position");
                let found = status_at(&state, &reader, run, Some(until));
                assert_says(&found, golden, &format!("{} {name} at {position}", form.display()));
            }
        }
    }
}

#[test]
fn every_released_form_is_shown_event_by_event() {
    for form in forms() {
        let reader = LogReader::open(&form.join("state")).expect("a golden log");
        let mut position = 0;
        let mut versions: HashMap<String, u64> = HashMap::new();
        let mut check = |event: &StoredEvent<'_>| {
            position += 1;
            let version = versions.entry(event.stream_id.to_owned()).or_default();
            *version += 1;
            assert_eq!((event.position, event.version), (position, *version));
        };
        for record in records(&reader) {
            expand(&record, &mut check).expect("an event");
        }
        assert_eq!(position, reader.head().expect("an end").position);
    }
}

#[test]
fn the_golden_logs_of_the_present_form_have_every_type_of_event() {
    let mut found = BTreeSet::new();
    for form in present() {
        let reader = LogReader::open(&form.join("state")).expect("a golden log of the present form");
        for record in records(&reader) {
            expand(&record, |event| found.extend([event.event_type.to_owned()])).expect("an event");
        }
    }
    let all = "AgentChanged AgentJoined AgentLost AttemptTimedOut LeaseExpired MilestoneCancelRequested MilestoneCancelled \
               MilestoneCompleted MilestoneFailed MilestonePaused MilestoneReopened MilestoneResumed MilestoneSkipped \
               MilestoneStarted OwnerChanged ProgressUpdated RetryDue RunCancelRequested RunCancelled \
               RunCompleted RunFailed RunInterrupted RunPaused RunReopened RunResumed RunSubmitted TaskCancelRequested \
               TaskCancelled TaskCompleted TaskDispatched TaskFailed TaskGranted TaskPaused TaskReopened TaskResumed \
               TaskRetryScheduled TaskSkipped TaskStarted";
    // `DependencyResolved` needs a run that is spread over several schedulers.
    assert_eq!(found, all.split_whitespace().map(str::to_owned).collect());
}

/// The decisions of a run: the id of each, its moment, and its events.
fn decisions(state: &Path, reader: &dyn EventReader, run: &RunSummary) -> (Vec<Decision>, Vec<StoredRecord>) {
    let loaded = load_run(state, reader, run, None).expect("a golden log can be read");
    let graph = loaded.state.graph().clone();
    let mut decoder = Decoder::new(&loaded.plan, &graph, Vec::new());
    let name = run.run.to_string();
    let records: Vec<_> =
        records(reader).into_iter().filter(|record| belongs(record.stream.as_str(), &name)).collect();
    let mut decisions: Vec<Decision> = Vec::new();
    for record in &records {
        let mut first = None;
        expand(record, |event| {
            let id = Uuid::parse_str(&event.event_id).expect("an id").as_u128() & !0xff_ffff;
            let (user, correlation) = (&event.metadata.user_id, &event.metadata.correlation_id);
            first.get_or_insert((id, user.to_string(), correlation.to_string()));
        })
        .expect("an event");
        let (id, user, correlation) = first.expect("a record has events");
        let mut events = Vec::new();
        let mut moment = Timestamp(0);
        decoder
            .decode(record, |event, at| {
                events.push(event);
                moment = at;
            })
            .expect("a golden log can be read");
        match decisions.last_mut() {
            Some(last) if last.id == id => last.events.extend(events),
            _ => decisions.push(Decision { id, at: moment, user, correlation, events }),
        }
    }
    (decisions, records)
}

struct Decision {
    id: u128,
    at: Timestamp,
    user: String,
    correlation: String,
    events: Vec<Event>,
}

#[test]
fn what_is_written_now_is_written_as_in_the_golden_log() {
    present().iter().for_each(|form| assert_written_the_same(&form.join("state")));
}

fn assert_written_the_same(state: &Path) {
    let reader = LogReader::open(state).expect("a golden log of the present form");
    for run in list_runs(&reader).expect("runs") {
        let name = run.run.to_string();
        let loaded = load_run(state, &reader, &run, None).expect("a golden log can be read");
        let (decisions, golden) = decisions(state, &reader, &run);
        let agents: Vec<_> = loaded.state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let mut encoder = Encoder::new(&name, HashMap::new());
        let mut written: Vec<NewRecord> = Vec::new();
        for Decision { id, at, user, correlation, events } in &decisions {
            let envelope = Envelope { id: Uuid::from_u128(*id), at: *at, user, correlation };
            written.extend(encoder.encode(&loaded.plan, events, &envelope, |agent| &agents[agent.get()]));
        }
        assert_eq!(written.len(), golden.len());
        for (written, golden) in written.iter().zip(&golden) {
            let place = (&golden.stream, golden.first_version, golden.count);
            assert_eq!((&written.stream, written.first_version, written.count), place);
            // A difference here is a new form: raise `SCHEMA`, add an upcaster, make a golden log of the new form.
            assert_eq!(written.body, golden.body);
        }
    }
}
