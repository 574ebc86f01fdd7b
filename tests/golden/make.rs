//! Makes the golden log of the present form: three runs that between them do all that a run can do.

use super::{present, records, status_at};
use cairn_coordinator::codec::{Encoder, Envelope};
use cairn_coordinator::plans;
use cairn_coordinator::runtime::{list_runs, new_id, read_plan};
use cairn_coordinator::store::file::{LogReader, Options};
use cairn_coordinator::store::{Append, EventStore, FileStore, Holder};
use cairn_engine::{RunStatus, State, TaskStatus, decide, next_deadline};
use cairn_model::{
    AgentRole, AgentSpec, Command, FailureKind, Outcome, Report, ReportKind, RunOptions, RunSubmitted, Scope,
    TaskIndex, Timestamp,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

const PLAN: &str = r#"version: 1
project: golden
title: "Everything that a run can do: \"retry\", skip, cancel, interrupt"
parameters:
  region: {default: eu, enum: [eu, us]}
milestones:
  - id: build
    title: Everything compiles
    owner: ada
    due: 2026-12-01T12:00:00Z
    tasks:
      - {id: fetch, run: fetch, env: {REGION: "${{ params.region }}"}, retry: {max_attempts: 3, initial: 2s, jitter: 0}}
      - {id: compile, exec: [make, all], needs: [fetch], timeout: 60s, retry: {max_attempts: 2, initial: 1s}}
      - {id: lint, exec: [lint], continue_on_error: true}
      - {id: built, needs: [compile, lint]}
  - id: test
    needs: [build]
    tasks:
      - {id: unit, exec: [unit], resources: {cpus: 1.5}, requires: {os: linux}, estimate: 4m}
      - {id: settle, wait: 5s}
      - {id: once, exec: [once], at_most_once: true}
      - {id: report, exec: [report], needs: [unit]}
  - id: ship
    needs: [test]
    tasks:
      - {id: "publish#1.2", exec: [publish]}
  - id: docs
    tasks:
      - {id: write, exec: [write], priority: 5}
      - {id: draw, exec: [draw], needs: [write]}
"#;

/// One run of the plan, decided and stored as the run loop does it.
struct Script<'a> {
    store: &'a FileStore,
    encoder: Encoder,
    state: State,
    now: Timestamp,
    correlation: String,
}

impl<'a> Script<'a> {
    fn new(store: &'a FileStore, plan_hash: &str, number: u64, options: RunOptions, day: &str) -> Self {
        let run = format!("golden.{number}");
        let parameters = vec![("region".to_owned(), "us".to_owned())];
        let (plan, graph) = read_plan("plan.yaml", PLAN.to_owned(), &parameters).expect("a plan");
        let (tasks, milestones) = (plan.task_count() as u64, plan.milestones().len() as u64);
        let submitted = RunSubmitted {
            run: run.clone(),
            plan_hash: plan_hash.to_owned(),
            plan_name: "plan.yaml".to_owned(),
            plan_directory: "/home/ada/golden".to_owned(),
            parameters,
            options,
            tasks,
            milestones,
            key: None,
        };
        let mut script = Self {
            store,
            encoder: Encoder::new(&run, HashMap::new()),
            state: State::new(plan, graph),
            now: Timestamp::parse(day).expect("a moment"),
            correlation: new_id().to_string(),
        };
        script.wish(Command::Submit(Box::new(submitted)));
        script.own(1);
        script
    }

    /// Decides, and makes durable what follows.
    fn wish(&mut self, command: Command) {
        self.now = self.now.plus(Duration::from_micros(250_001));
        let mut events = Vec::new();
        let _ = decide(&mut self.state, command, self.now, &mut events).expect("it fits");
        if events.is_empty() {
            return;
        }
        let envelope = Envelope { id: new_id(), at: self.now, user: "ada", correlation: &self.correlation };
        let agents = self.state.agents();
        let name = |agent: cairn_model::AgentIndex| agents[agent.get()].spec.id.as_str();
        let records = self.encoder.encode(self.state.plan(), &events, &envelope, name);
        self.store.submit(Append { epoch: self.state.run().epoch, records }).wait().expect("durable");
    }

    /// Another process takes the run over, with an agent of its own.
    fn own(&mut self, epoch: u64) {
        self.correlation = new_id().to_string();
        self.wish(Command::TakeOver { epoch });
        self.wish(Command::AgentJoined(Box::new(AgentSpec {
            id: "local-1".to_owned(),
            incarnation: epoch,
            slots: 4,
            backlog: 256,
            timers: 64,
            resources: vec![("cpus".to_owned(), 3_500), ("memory".to_owned(), 8 << 30)],
            labels: vec![("os".to_owned(), "linux".to_owned())],
            role: AgentRole::Own,
        })));
    }

    /// Waits until the run asks to be decided by itself.
    fn wait(&mut self) {
        let at = next_deadline(&self.state).expect("there is something to wait for");
        self.now = self.now.max(at);
        self.wish(Command::Tick);
    }

    fn task(&self, name: &str) -> TaskIndex {
        self.state.plan().find_task_name(name).expect("a task of the plan")
    }

    fn milestone(&self, name: &str) -> Scope {
        Scope::Milestone(self.state.plan().find_milestone(name).expect("a milestone of the plan"))
    }

    fn report(&mut self, names: &[&str], kind: impl Fn(Timestamp) -> ReportKind) {
        let reports = names.iter().map(|name| {
            let task = self.task(name);
            let row = self.state.task(task);
            assert!(row.status.is_out(), "{name} is {}", row.status.name());
            let agent = row.agent().expect("it is out");
            Report { task, attempt: row.attempt, agent, kind: kind(self.now) }
        });
        let reports = reports.collect();
        self.wish(Command::Reports(reports));
    }

    fn start(&mut self, names: &[&str]) {
        self.report(names, |at| ReportKind::Started { at });
    }

    fn end(&mut self, names: &[&str], outcome: &Outcome) {
        self.report(names, |now| ReportKind::Finished {
            outcome: outcome.clone(),
            started_at: Timestamp(now.0 - 123_456),
            finished_at: now,
        });
    }
}

fn failed() -> Outcome {
    Outcome::Failed {
        kind: FailureKind::ExitCode,
        message: "exit code 7: \"näh\"".into(),
        exit_code: Some(7),
    }
}

/// Fails in the end: retries, an interruption, a new owner, a time-out, pauses, cancellations, skips.
fn first(store: &FileStore, hash: &str) {
    let options = RunOptions { closed_fleet: true, seed: 7, ..RunOptions::default() };
    let mut run = Script::new(store, hash, 1, options, "2026-11-01T08:00:00Z");
    run.start(&["build/fetch", "build/lint", "docs/write"]);
    run.report(&["build/fetch"], |_| ReportKind::Progress {
        permille: 400,
        message: Some("40 % — \"half\" way".into()),
    });
    run.report(&["build/fetch"], |_| ReportKind::Progress { permille: 500, message: None });
    run.end(&["build/fetch", "build/lint"], &failed());
    run.wait();
    run.start(&["build/fetch"]);
    run.wish(Command::Interrupt { reason: "SIGINT received".into() });
    run.end(&["build/fetch", "docs/write"], &Outcome::Stopped);
    run.own(2);
    run.end(&["build/fetch"], &Outcome::Completed);
    run.start(&["build/compile"]);
    run.wait();
    run.end(&["build/compile"], &Outcome::Stopped);
    run.wait();
    run.wish(Command::Pause { scope: Scope::Run, reason: "lunch".into() });
    run.end(&["build/compile"], &Outcome::Completed);
    run.wish(Command::Resume { scope: Scope::Run });
    let (docs, draw) = (run.milestone("docs"), Scope::Task(run.task("docs/draw")));
    run.wish(Command::Pause { scope: docs, reason: "nobody reads them".into() });
    run.wish(Command::Resume { scope: docs });
    run.wish(Command::Pause { scope: draw, reason: "no pen".into() });
    run.wish(Command::Resume { scope: draw });
    run.start(&["docs/write"]);
    run.wish(Command::Cancel { scope: Scope::Task(run.task("docs/write")), reason: "too late".into() });
    run.wish(Command::Cancel { scope: docs, reason: "nobody reads them".into() });
    run.end(&["docs/write"], &Outcome::Stopped);
    run.end(&["test/settle"], &Outcome::Completed);
    // A third owner: what was out is lost with the second, and what must run once only has an unknown outcome.
    run.start(&["test/once", "test/unit"]);
    run.own(3);
    run.end(&["test/unit"], &failed());
    assert_eq!(run.state.run().status, RunStatus::Failed);
}

/// Completes: every attempt that is offered ends as it should.
fn second(store: &FileStore, hash: &str) {
    let options = RunOptions { closed_fleet: true, seed: 8, ..RunOptions::default() };
    let mut run = Script::new(store, hash, 2, options, "2026-11-02T08:00:00Z");
    while !run.state.run().status.is_final() {
        let state = &run.state;
        let out = state.plan().tasks().filter(|&task| state.task(task).status == TaskStatus::Dispatched);
        let names: Vec<String> = out.map(|task| state.plan().task_name(task)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(!names.is_empty(), "the run goes on");
        run.end(&names, &Outcome::Completed);
    }
    assert_eq!(run.state.run().status, RunStatus::Completed);
}

/// Is cancelled while something runs and something waits at the agent.
fn third(store: &FileStore, hash: &str) {
    let options = RunOptions { closed_fleet: true, seed: 9, fail_fast: true };
    let mut run = Script::new(store, hash, 3, options, "2026-11-03T08:00:00Z");
    run.start(&["build/fetch"]);
    run.wish(Command::Cancel { scope: Scope::Run, reason: "changed my mind".into() });
    run.end(&["build/fetch"], &Outcome::Stopped);
    run.end(&["build/lint", "docs/write"], &Outcome::NotStarted);
    assert_eq!(run.state.run().status, RunStatus::Cancelled);
}

/// What each run meant, at its end and at every tenth event.
fn meaning(state: &Path) -> Value {
    let reader = LogReader::open(state).expect("a log");
    let mut all = Map::new();
    for run in list_runs(&reader).expect("runs") {
        let name = run.run.to_string();
        let of_run = records(&reader);
        let of_run = of_run.iter().filter(|record| record.stream.as_str().split('/').next() == Some(&name));
        let last = of_run.map(|record| record.next_position() - 1).max().expect("a run has events");
        let first = last / 10 * 10;
        let positions = [last, first, first.saturating_sub(10), first.saturating_sub(30)];
        let statuses: BTreeMap<String, Value> = positions
            .into_iter()
            .map(|position| (position.to_string(), status_at(state, &reader, &run, Some(position))))
            .collect();
        all.insert(name, serde_json::to_value(statuses).expect("JSON"));
    }
    Value::Object(all)
}

#[test]
#[ignore = "writes the golden log of a new form of events, once"]
fn make() {
    let form = present();
    assert!(!form.exists(), "{} is there: a golden log is never changed", form.display());
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let state = directory.path().join("state");
    std::fs::create_dir_all(&state).expect("made");
    let hash = plans::save(&state, PLAN).expect("a plan is kept");
    let store =
        FileStore::open(&state, &Holder::this_process("golden", Timestamp(0)), Options::new(new_id()));
    let store = store.expect("a store");
    first(&store, &hash);
    second(&store, &hash);
    third(&store, &hash);
    drop(store);
    std::fs::remove_file(state.join("lock")).expect("nobody holds it any more");
    let text = serde_json::to_string_pretty(&meaning(&state)).expect("JSON");
    std::fs::write(directory.path().join("status.json"), text + "\n").expect("written");
    std::fs::rename(directory.keep(), form).expect("it has its name");
}
