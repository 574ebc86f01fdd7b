//! A state directory made by the library, and the built binary to look at it.

use cairn_coordinator::codec::{Encoder, Envelope};
use cairn_coordinator::plans;
use cairn_coordinator::runtime::{new_id, read_plan};
use cairn_coordinator::store::file::Options;
use cairn_coordinator::store::{Append, EventStore, FileStore, Holder};
use cairn_engine::{State, decide};
use cairn_model::{
    AgentIndex, AgentSpec, Command as Wish, FailureKind, Outcome, Report, ReportKind, RunOptions,
    RunSubmitted, Timestamp,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Second 0 of the tests.
const BEGIN: &str = "2026-01-01T00:00:00Z";

/// So many milliseconds after the beginning.
pub fn at(millis: i64) -> Timestamp {
    Timestamp(Timestamp::parse(BEGIN).expect("a moment").0 + millis * 1000)
}

/// A working directory with files in it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".milestones")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
        std::fs::write(path, text).expect("written");
    }

    /// The binary in this directory, with nothing of the environment of the tests.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(line.split_whitespace()).current_dir(self.path()).env_clear();
        command.env("LC_ALL", "C.UTF-8").env("HOME", self.path()).env("COLUMNS", "100").stdin(Stdio::null());
        command
    }

    pub fn cairn(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().expect("it runs"))
    }

    /// Opens the store for one run of a plan.
    pub fn run(&self, number: u64, plan: &str) -> Run {
        let state_directory = self.state();
        // The test goes on when it has closed the store: it is to look like a process that has ended.
        let holder = Holder { started_ticks: 0, ..Holder::this_process("a test", at(0)) };
        let store = FileStore::open(&state_directory, &holder, Options::new(new_id())).expect("opened");
        let (plan_read, graph) =
            read_plan("plan.yaml", plan.to_owned(), &[]).unwrap_or_else(|wrong| panic!("{wrong}"));
        let run = format!("{}.{number}", plan_read.project);
        let submitted = RunSubmitted {
            run: run.clone(),
            plan_hash: plans::save(&state_directory, plan).expect("saved"),
            plan_name: "plan.yaml".to_owned(),
            plan_directory: self.path().to_string_lossy().into_owned(),
            parameters: Vec::new(),
            options: RunOptions::default(),
            tasks: plan_read.task_count() as u64,
            milestones: plan_read.milestones().len() as u64,
            key: None,
        };
        let mut run = Run {
            store,
            state: State::new(plan_read, graph),
            encoder: Encoder::new(&run, HashMap::new()),
            logs: state_directory.join("logs").join(&run),
        };
        run.wish(0, Wish::Submit(Box::new(submitted)));
        run
    }
}

/// How the binary ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("no signal"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// What it printed, if it ended with 0.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.good();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A run that a test makes happen.
pub struct Run {
    store: FileStore,
    state: State,
    encoder: Encoder,
    logs: PathBuf,
}

impl Run {
    /// Decides a command and stores what follows.
    pub fn wish(&mut self, millis: i64, wish: Wish) {
        let mut events = Vec::new();
        let _ = decide(&mut self.state, wish, at(millis), &mut events).expect("accepted");
        let envelope = Envelope { id: new_id(), at: at(millis), user: "ada", correlation: "test" };
        let agents: Vec<_> = self.state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let name = |agent: AgentIndex| agents[agent.get()].as_str();
        let records = self.encoder.encode(self.state.plan(), &events, &envelope, name);
        if !records.is_empty() {
            self.store.submit(Append { epoch: 1, records }).wait().expect("stored");
        }
    }

    /// An agent with so many slots and two cpus.
    pub fn agent(&mut self, millis: i64, slots: u32) {
        let resources = vec![("cpus".to_owned(), 2_000)];
        let spec = AgentSpec { id: "local-1".into(), slots, timers: 9, resources, ..AgentSpec::default() };
        self.wish(millis, Wish::AgentJoined(Box::new(spec)));
    }

    /// The agent speaks of the newest attempt of a task.
    pub fn report(&mut self, millis: i64, task: &str, kind: ReportKind) {
        let task = self.state.plan().find_task_name(task).expect("in the plan");
        let row = *self.state.task(task);
        let report = Report { task, attempt: row.attempt, agent: row.agent().expect("out"), kind };
        self.wish(millis, Wish::Reports(vec![report]));
    }

    pub fn started(&mut self, millis: i64, task: &str) {
        self.report(millis, task, ReportKind::Started { at: at(millis) });
    }

    pub fn progress(&mut self, millis: i64, task: &str, permille: u16, message: &str) {
        self.report(millis, task, ReportKind::Progress { permille, message: Some(message.into()) });
    }

    pub fn completed(&mut self, from: i64, to: i64, task: &str) {
        let (started_at, finished_at) = (at(from), at(to));
        self.report(to, task, ReportKind::Finished { outcome: Outcome::Completed, started_at, finished_at });
    }

    pub fn failed(&mut self, from: i64, to: i64, task: &str, code: i32) {
        let message = format!("exit code {code}").into();
        let outcome = Outcome::Failed { kind: FailureKind::ExitCode, message, exit_code: Some(code) };
        let (started_at, finished_at) = (at(from), at(to));
        self.report(to, task, ReportKind::Finished { outcome, started_at, finished_at });
    }

    /// What an attempt wrote.
    pub fn log(&self, task: &str, attempt: u32, bytes: impl AsRef<[u8]>) {
        let path = self.logs.join(format!("{task}.{attempt}.log"));
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
        std::fs::write(path, bytes).expect("written");
    }
}
