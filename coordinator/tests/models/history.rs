//! Histories of runs: made by the engine from random wishes and reports, kept in a real log.

use cairn_coordinator::codec::{Encoder, Envelope};
use cairn_coordinator::plans;
use cairn_coordinator::projection::models::PlanSource;
use cairn_coordinator::runtime::{new_id, read_plan};
use cairn_coordinator::store::file::{FileStore, LogReader, Options};
use cairn_coordinator::store::{Append, Cursor, EventReader, EventStore as _, Head, Holder, LoadedSnapshot};
use cairn_coordinator::store::{ReadError, SnapshotError, StoredRecord};
use cairn_engine::{State, TaskStatus, decide};
use cairn_model::{
    AgentSpec, Command, FailureKind, MilestoneIndex, Outcome, Report, ReportKind, RunSubmitted, Scope,
    TaskIndex, Timestamp,
};
use std::collections::HashMap;
use std::path::Path;
use tempfile::TempDir;
use uuid::Uuid;

const APOLLO: &str = "
version: 1
project: apollo
milestones:
- id: build
  title: Everything Compiles
  owner: ada
  due: 2026-12-01T12:00:00Z
  tasks:
  - {id: a, run: x}
  - {id: b, run: x, needs: [a], retry: {max_attempts: 2, initial: 1s}}
  - {id: checked, needs: [b]}
- {id: docs, description: 'For people, ÄÖÜ', owner: bea, tasks: [{id: write, run: x}]}
- {id: test, needs: [build/a], due: 2026-11-01T00:00:00Z, tasks: [{id: t, run: x}, {id: u, run: x, needs: [docs/write]}]}
- {id: ship, needs: [build, test], owner: ada, tasks: [{id: s, run: x, needs: [docs/write]}, {id: w, wait: 1s}]}
";

const ZEUS: &str = "{version: 1, project: zeus, tasks: [{id: a, run: x}, {id: b, run: x, needs: [a]}]}";

/// Numbers that look random and are always the same.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// A log that grows.
pub struct History {
    directory: TempDir,
    store: FileStore,
    random: Random,
    now: i64,
    pub runs: Vec<State>,
    encoders: Vec<Encoder>,
}

impl History {
    pub fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let holder = Holder::this_process("test", Timestamp(0));
        let store =
            FileStore::open(directory.path(), &holder, Options::new(Uuid::from_u128(7))).expect("a store");
        let start = Timestamp::parse("2026-10-30T22:00:00Z").expect("a time").0;
        Self {
            directory,
            store,
            random: Random::new(seed),
            now: start,
            runs: Vec::new(),
            encoders: Vec::new(),
        }
    }

    /// A history of so many decisions.
    pub async fn of(seed: u64, decisions: usize) -> Self {
        let mut history = Self::new(seed);
        for _ in 0..decisions {
            history.grow().await;
        }
        history
    }

    pub fn reader(&self) -> Box<dyn EventReader> {
        Box::new(LogReader::open(self.directory.path()).expect("a log"))
    }

    /// A reader that knows nothing behind a position.
    pub fn reader_until(&self, until: u64) -> Box<dyn EventReader> {
        Box::new(Until { reader: self.reader(), until })
    }

    pub fn plans(&self) -> PlanSource {
        plan_source(self.directory.path())
    }

    pub fn end(&self) -> u64 {
        self.reader().head().expect("a head").position
    }

    /// Something happens; returns the run that it happens to.
    pub async fn grow(&mut self) -> usize {
        self.now += [1, 40_000, 700_000, 90_000_000, 9_000_000_000][self.random.below(5)];
        let active = self.runs.iter().filter(|run| !run.run().status.is_final()).count();
        if self.runs.is_empty() || (active < 3 && self.random.below(6) == 0) {
            return self.submit().await;
        }
        let at = self.random.below(self.runs.len());
        let wish = self.wish(at);
        self.decide(at, wish).await;
        at
    }

    async fn submit(&mut self) -> usize {
        let text = [APOLLO, ZEUS][self.random.below(2)];
        let plan_hash = plans::save(self.directory.path(), text).expect("saved");
        let (plan, graph) = read_plan("Plan.yaml", text.to_owned(), &[]).expect("a plan");
        let number = self.runs.iter().filter(|run| run.plan().project == plan.project).count() + 1;
        let submitted = RunSubmitted {
            run: format!("{}.{number}", plan.project),
            plan_hash,
            plan_name: "Plan.yaml".into(),
            tasks: plan.task_count() as u64,
            milestones: plan.milestones().len() as u64,
            ..RunSubmitted::default()
        };
        self.encoders.push(Encoder::new(&submitted.run, HashMap::new()));
        self.runs.push(State::new(plan, graph));
        let at = self.runs.len() - 1;
        self.decide(at, Command::Submit(Box::new(submitted))).await;
        let spec = AgentSpec { id: "one".into(), slots: 2, timers: 2, backlog: 1, ..AgentSpec::default() };
        self.decide(at, Command::AgentJoined(Box::new(spec))).await;
        at
    }

    /// What is wished, or reported.
    fn wish(&mut self, at: usize) -> Command {
        let state = &self.runs[at];
        let (milestones, tasks) = (state.plan().milestones().len(), state.plan().task_count());
        let scope = match self.random.below(3) {
            0 => Scope::Run,
            1 => Scope::Milestone(MilestoneIndex::new(self.random.below(milestones))),
            _ => Scope::Task(TaskIndex::new(self.random.below(tasks))),
        };
        match self.random.below(40) {
            0..3 => return Command::Pause { scope, reason: "".into() },
            3..6 => return Command::Resume { scope },
            6 => return Command::Cancel { scope, reason: "".into() },
            7..11 => return Command::Retry { scope, downstream: self.random.below(2) == 0 },
            11..14 => return Command::Tick,
            _ => {}
        }
        let out: Vec<_> = state.plan().tasks().filter(|task| state.task(*task).status.is_out()).collect();
        if out.is_empty() {
            return Command::Tick;
        }
        let task = out[self.random.below(out.len())];
        let row = *state.task(task);
        let started_at = match row.status {
            TaskStatus::InProgress => row.since,
            _ => Timestamp(self.now - 30_000),
        };
        let kind = match (row.status, self.random.below(4)) {
            (TaskStatus::Dispatched, 0 | 1) => ReportKind::Started { at: Timestamp(self.now) },
            (_, 0) => failed(started_at, self.now),
            _ => {
                let finished_at = Timestamp(self.now);
                ReportKind::Finished { outcome: Outcome::Completed, started_at, finished_at }
            }
        };
        let agent = row.agent().expect("it is out");
        Command::Reports(vec![Report { task, attempt: row.attempt, agent, kind }])
    }

    async fn decide(&mut self, at: usize, command: Command) {
        let state = &mut self.runs[at];
        let mut events = Vec::new();
        if decide(state, command, Timestamp(self.now), &mut events).is_err() {
            return;
        }
        let names: Vec<String> = state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let envelope = Envelope { id: new_id(), at: Timestamp(self.now), user: "ada", correlation: "c" };
        let plan = state.plan().clone();
        let records =
            self.encoders[at].encode(&plan, &events, &envelope, |agent| names[agent.get()].as_str());
        if !records.is_empty() {
            self.store.submit(Append { epoch: 1, records }).await.expect("appended");
        }
    }
}

fn failed(started_at: Timestamp, now: i64) -> ReportKind {
    let outcome =
        Outcome::Failed { kind: FailureKind::ExitCode, message: "exit code 3".into(), exit_code: Some(3) };
    ReportKind::Finished { outcome, started_at, finished_at: Timestamp(now) }
}

fn plan_source(directory: &Path) -> PlanSource {
    let directory = directory.to_owned();
    Box::new(move |submitted| {
        let text = plans::load(&directory, &submitted.plan_hash).ok()?;
        Some(read_plan(&submitted.plan_name, text, &submitted.parameters).ok()?.0)
    })
}

struct Until {
    reader: Box<dyn EventReader>,
    until: u64,
}

impl EventReader for Until {
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        let mut page = self.reader.read(cursor)?;
        page.retain(|record| record.next_position() - 1 <= self.until);
        Ok(page)
    }

    fn head(&self) -> Result<Head, ReadError> {
        self.reader.head()
    }

    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
        self.reader.load_snapshot(name)
    }
}
