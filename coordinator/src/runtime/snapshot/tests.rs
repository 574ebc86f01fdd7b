//! A run read back through a snapshot is the run that its whole log gives, and a snapshot that does not fit is passed
//! over. To see whether one was used, it holds something that the log does not: an interruption.

use super::*;
use crate::codec::{Encoder, Envelope};
use crate::insight::tests::{agent, command};
use crate::plans;
use crate::runtime::{LoadedRun, find_run, load_run, read_plan};
use crate::store::file::{LogReader, Options};
use crate::store::{Append, EventStore, FileStore, Holder};
use cairn_engine::apply;
use cairn_model::{
    AgentIndex, Command, Event, Outcome, Report, ReportKind, RunSubmitted, TaskIndex, Timestamp,
};
use tempfile::TempDir;
use uuid::Uuid;

const PLAN: &str = "
version: 1
project: apollo
tasks:
  - {id: a, exec: [x], timeout: 9s, retry: {max_attempts: 3, initial: 5s}}
  - {id: b, exec: [x], needs: [a], resources: {cpus: 1}}
  - {id: c, wait: 1s}
  - {id: d, needs: [b, c]}
";

/// A run in a state directory.
struct Stored {
    directory: TempDir,
    store: FileStore,
    encoder: Encoder,
    state: State,
    plan_hash: String,
    position: u64,
}

impl Stored {
    /// A run in which something of every kind is under way.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let holder = Holder::this_process("test", Timestamp(0));
        let store =
            FileStore::open(directory.path(), &holder, Options::new(Uuid::from_u128(7))).expect("a store");
        let plan_hash = plans::save(directory.path(), PLAN).expect("a plan is kept");
        let (plan, graph) = read_plan("plan.yaml", PLAN.to_owned(), &[]).expect("a plan");
        let state = State::new(plan, graph);
        let encoder = Encoder::new("apollo.1", HashMap::new());
        let mut stored = Self { directory, store, encoder, state, plan_hash: plan_hash.clone(), position: 0 };
        let run = "apollo.1".to_owned();
        let submitted = RunSubmitted { run, plan_hash, ..RunSubmitted::default() };
        stored.decide(0, Command::Submit(Box::new(submitted)));
        stored.decide(1, agent("local-1", 1, 4_000));
        let failed = Outcome::Failed {
            kind: cairn_model::FailureKind::ExitCode,
            message: "no".into(),
            exit_code: Some(1),
        };
        stored.report(2, 0, ReportKind::Started { at: Timestamp(1_500_000) });
        stored.report(3, 0, ReportKind::Progress { permille: 400, message: Some("half".into()) });
        stored.report(4, 0, ended(failed));
        stored
    }

    fn decide(&mut self, second: i64, wish: Command) {
        let events = command(&mut self.state, second, wish);
        let at = Timestamp(second * 1_000_000);
        let id = Uuid::from_u128(u128::from(self.position + 1) << 64);
        let envelope = Envelope { id, at, user: "ada", correlation: "c" };
        let records = self.encoder.encode(self.state.plan(), &events, &envelope, |_| "local-1");
        let appended = self.store.submit(Append { epoch: 1, records }).wait().expect("durable");
        self.position = appended.position + events.len() as u64 - 1;
    }

    fn report(&mut self, second: i64, task: u32, kind: ReportKind) {
        let attempt = self.state.task(TaskIndex(task)).attempt;
        let report = Report { task: TaskIndex(task), attempt, agent: AgentIndex(0), kind };
        self.decide(second, Command::Reports(vec![report]));
    }

    /// A snapshot of the run as it stands, and of an interruption that the log does not have.
    fn marked(&self, plan_hash: &str) -> Snapshot {
        let mut state = self.state.clone();
        let at = state.last_event_at();
        apply(&mut state, &Event::RunInterrupted { reason: "a mark".into() }, at);
        take(&state, plan_hash, self.encoder.versions(), self.position).expect("it is small")
    }

    fn keep(&self, snapshot: Snapshot) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(self.store.save_snapshot(snapshot)).expect("kept");
    }

    fn load(&self, until: Option<u64>) -> LoadedRun {
        let reader = LogReader::open(self.directory.path()).expect("a log");
        let run = find_run(&reader, "apollo").expect("a run");
        load_run(self.directory.path(), &reader, &run, until).expect("it can be read")
    }
}

fn ended(outcome: Outcome) -> ReportKind {
    ReportKind::Finished { outcome, started_at: Timestamp(0), finished_at: Timestamp(1) }
}

#[test]
fn a_run_restored_from_a_snapshot_is_the_replayed_one() {
    let mut stored = Stored::new();
    let replayed = stored.load(None);
    assert_eq!(replayed.state, stored.state);
    assert!(replayed.state.retry_at(TaskIndex(0)).is_some(), "there is something to keep");
    let snapshot = take(&stored.state, &stored.plan_hash, stored.encoder.versions(), stored.position);
    stored.keep(snapshot.expect("it is small"));
    let restored = stored.load(None);
    assert_eq!(restored.state, replayed.state);
    assert_eq!((&restored.versions, restored.position), (&replayed.versions, replayed.position));
    // And goes on alike.
    stored.decide(30, Command::Tick);
    stored.report(31, 0, ended(Outcome::Completed));
    let later = stored.load(None);
    assert_eq!((&later.state, later.position), (&stored.state, stored.position));
    assert_eq!(&later.versions, stored.encoder.versions());
}

#[test]
fn a_snapshot_is_used_unless_it_is_ahead_of_what_is_asked_for() {
    let stored = Stored::new();
    stored.keep(stored.marked(&stored.plan_hash));
    assert!(stored.load(None).state.run().interrupted);
    assert!(stored.load(Some(stored.position)).state.run().interrupted);
    let earlier = stored.load(Some(stored.position - 1));
    assert!(!earlier.state.run().interrupted);
    assert_eq!(earlier.position, stored.position - 1);
}

#[test]
fn a_snapshot_that_does_not_fit_is_passed_over() {
    type Spoil = fn(&mut Snapshot);
    let stored = Stored::new();
    let other_form: Spoil = |snapshot| snapshot.bytes[..4].copy_from_slice(&(IMAGE_FORM + 1).to_le_bytes());
    let cut: Spoil = |snapshot| snapshot.bytes.truncate(snapshot.bytes.len() - 1);
    let empty: Spoil = |snapshot| snapshot.bytes.clear();
    let huge: Spoil = |snapshot| snapshot.bytes[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
    for spoil in [other_form, cut, empty, huge] {
        let mut snapshot = stored.marked(&stored.plan_hash);
        spoil(&mut snapshot);
        assert!(read(&snapshot, &stored.plan_hash).is_none());
        stored.keep(snapshot);
        assert_eq!(stored.load(None).state, stored.state);
    }
    stored.keep(stored.marked("of another plan"));
    assert_eq!(stored.load(None).state, stored.state);
}

#[test]
fn a_snapshot_of_a_run_of_another_size_is_passed_over() {
    let stored = Stored::new();
    let snapshot = stored.marked(&stored.plan_hash);
    let image = || read(&snapshot, &stored.plan_hash).expect("readable").image;
    let (plan, graph) = (stored.state.plan().clone(), stored.state.graph().clone());
    assert!(State::restore(plan, graph, image()).is_some());
    let text = PLAN.replace("- {id: c, wait: 1s}", "- {id: c, wait: 1s}\n  - {id: e, wait: 1s}");
    let (plan, graph) = read_plan("plan.yaml", text, &[]).expect("a plan");
    assert!(State::restore(plan, graph, image()).is_none());
}

#[test]
fn a_damaged_file_is_passed_over() {
    let stored = Stored::new();
    stored.keep(stored.marked(&stored.plan_hash));
    let snapshots = stored.directory.path().join("snapshots");
    let file = std::fs::read_dir(snapshots).expect("listed").next().expect("one").expect("an entry").path();
    let mut bytes = std::fs::read(&file).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    assert_eq!(stored.load(None).state, stored.state);
}

#[test]
fn snapshots_cost_a_fixed_share_of_the_log() {
    let tasks: String = (0..1000).map(|at| format!("  - {{id: t{at}, exec: [x]}}\n")).collect();
    let of = |text: &str| {
        let (plan, graph) = read_plan("plan.yaml", text.to_owned(), &[]).expect("a plan");
        pace(&State::new(plan, graph))
    };
    assert_eq!(of(PLAN), MIN_EVENTS);
    assert_eq!(of(&format!("version: 1\nproject: apollo\ntasks:\n{tasks}")), 500);
}
